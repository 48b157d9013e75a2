# SPDX-License-Identifier: Apache-2.0
import hashlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.model import cut_students, normalize
from learn2compress.compression.quantization.qat import (
    calibrate,
    describe_layers,
    in_parts,
    quantization_aware,
    representative_ids_digest,
    settle_weight_ranges,
)
from learn2compress.schemas.errors import DataError


@pytest.fixture(scope="module")
def images(stripes):
    return normalize(stripes.draw(64, 3)[0])


@pytest.fixture(scope="module")
def calibrated(sparse_family, images):
    model = quantization_aware(sparse_family, keep_zeros=True)
    calibrate(model, sparse_family, [images[:32], images[32:]])
    return model, model.get_weights()


@pytest.fixture
def aware(calibrated):
    """The quantization-aware family after calibration, restored for each test."""
    model, weights = calibrated
    model.set_weights(weights)
    return model


@pytest.fixture(scope="module")
def plain(sparse_family):
    """The quantization-aware family without the scheme that keeps zeros, not calibrated."""
    return quantization_aware(sparse_family, keep_zeros=False)


def ranges(model: keras.Model) -> dict[str, np.ndarray]:
    """The two ends of each range by name, such as quant_stem_relu/output."""
    found = {}
    for weight in model.weights:
        name = weight.name.split(":")[0]
        if name.endswith(("_min", "_max")):
            found.setdefault(name[:-4], []).append(weight.numpy())
    return found


def variable(model: keras.Model, name: str):
    """A trained variable by its name in the float model: a wrapped layer's own attribute is the rounded tensor."""
    return next(v for v in model.trainable_variables if v.name.removeprefix("quant_") == f"{name}:0")


def test_quantization_aware_has_the_weights_of_the_model_and_none_of_its_variables(aware, sparse_family):
    for before in sparse_family.trainable_variables:
        after = variable(aware, before.name.removesuffix(":0"))
        np.testing.assert_array_equal(after.numpy(), before.numpy())
        assert after is not before


def test_calibrate_sets_activations_to_the_mean_of_the_batches_extremes(aware, sparse_family, images):
    relu = keras.Model(sparse_family.input, sparse_family.get_layer("trunk2_1_pw_relu").output)
    logits = keras.Model(sparse_family.input, sparse_family.get_layer("large_logits").output)
    halves = [images[:32], images[32:]]

    found = ranges(aware)

    low, high = found["quant_trunk2_1_pw_relu/output"]
    assert low == 0
    assert high == pytest.approx(np.mean([relu(half).numpy().max() for half in halves]), rel=1e-5)
    low, high = found["quant_large_logits/post_activation"]
    assert low == pytest.approx(np.mean([logits(half).numpy().min() for half in halves]), rel=1e-5)
    assert high == pytest.approx(np.mean([logits(half).numpy().max() for half in halves]), rel=1e-5)


def test_calibrate_gives_the_same_ranges_when_batches_are_cut_into_parts(aware, sparse_family, images, monkeypatch):
    whole = ranges(aware)
    monkeypatch.setattr("learn2compress.compression.quantization.qat._PART_PIXELS", 8 * int(np.prod(images.shape[1:3])))

    calibrate(aware, sparse_family, [images[:32], images[32:]])

    assert [len(part) for part in in_parts(images[:20])] == [8, 8, 4]
    for name, found in ranges(aware).items():
        np.testing.assert_allclose(found, whole[name], rtol=1e-5, atol=1e-6)


def test_calibrate_covers_every_call_of_a_layer_that_is_called_in_several_places():
    image, relu = keras.Input((4, 4, 1)), keras.layers.ReLU(name="relu")
    first = relu(keras.layers.Conv2D(1, 1, kernel_initializer="ones")(image))
    second = relu(keras.layers.Conv2D(1, 1, kernel_initializer=keras.initializers.Constant(5.0))(first))
    model = keras.Model(image, second)
    quantized = quantization_aware(model, False)

    calibrate(quantized, model, [np.full((1, 4, 4, 1), 0.5, np.float32)])

    wrapper = next(layer for layer in quantized.layers if layer.name == "quant_relu")
    assert [w.numpy() for w in wrapper.weights if w.name.split(":")[0].endswith("_max")] == [2.5]


def test_calibrate_replaces_all_initial_ranges_of_tfmot(aware):
    assert not [name for name, (low, high) in ranges(aware).items() if np.all(low == -6) and np.all(high == 6)]


def test_calibrate_keeps_the_predictions_of_the_float_model(aware, sparse_family, images):
    for exact, rounded in zip(sparse_family(images), aware(images, training=False), strict=True):
        assert np.mean(np.argmax(rounded, -1) == np.argmax(exact, -1)) >= 0.95
        assert np.abs(rounded - exact).mean() < 0.03 * np.ptp(exact), np.abs(rounded - exact).max() / np.ptp(exact)


def test_calibrate_refuses_no_images(plain, sparse_family):
    with pytest.raises(DataError, match="representative images must be at least one; got none"):
        calibrate(plain, sparse_family, [])


def test_settle_weight_ranges_updates_ranges_after_an_assignment(aware):
    kernel, dense = variable(aware, "trunk2_1_pw/kernel"), variable(aware, "small_logits/kernel")
    for weights in (kernel, dense):
        weights.assign(weights * 3)

    settle_weight_ranges(aware)

    low, high = ranges(aware)["quant_trunk2_1_pw/kernel"]
    np.testing.assert_allclose(high, np.abs(kernel).max(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(low, -high)
    low, high = ranges(aware)["quant_small_logits/kernel"]
    assert high == pytest.approx(np.abs(dense).max())


def test_input_range_is_fixed_during_training(aware, images):
    for _ in range(3):
        aware(0.5 * images, training=True)

    names = [name for name in ranges(aware) if name.startswith("quantize_layer")]
    assert len(names) == 1
    assert ranges(aware)[names[0]] == [-1, 1]


def test_zeros_are_kept_during_training(aware, sparse_family, images):
    optimizer = keras.optimizers.Adam(1e-2)
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_mean(output**2) for output in aware(images, training=True)])
        variables = aware.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    for layer in ("trunk1_1_pw", "trunk2_1_pw", "small_tail1_pw", "large_logits"):
        before, after = sparse_family.get_layer(layer).kernel.numpy(), variable(aware, f"{layer}/kernel").numpy()
        assert np.mean(after[before != 0] != before[before != 0]) > 0.5
        np.testing.assert_array_equal(after == 0, before == 0)


def test_zeros_are_lost_without_the_scheme_that_keeps_them(plain, images):
    """The counterpart of the test above."""
    kernel = variable(plain, "trunk2_1_pw/kernel")
    with tf.GradientTape() as tape:
        loss = tf.add_n([tf.reduce_mean(output**2) for output in plain(images, training=True)])
    keras.optimizers.Adam(1e-2).apply_gradients([(tape.gradient(loss, kernel), kernel)])

    assert np.mean(kernel == 0) < 0.1


def test_describe_layers_names_each_layer_of_a_student_once(aware, sparse_family, stripes):
    student = cut_students(sparse_family, stripes.SPEC.students)["small"]

    layers = describe_layers(aware, student)

    assert [layer.layer for layer in layers] == [layer.name for layer in student.layers[1:]]
    assert {layer.method for layer in layers} == {"quantization-aware"}
    assert layers[0].type == "Conv2D"


def test_describe_layers_gives_post_training_for_a_layer_that_was_not_wrapped(aware):
    image = keras.Input((8, 8, 1))

    layers = describe_layers(aware, keras.Model(image, keras.layers.ReLU(name="elsewhere")(image)))

    assert [(layer.layer, layer.method) for layer in layers] == [("elsewhere", "post-training")]


def test_representative_digest_does_not_depend_on_the_order():
    expected = hashlib.sha256(b"a\nb\n").hexdigest()

    assert representative_ids_digest(["b", "a"]) == representative_ids_digest(["a", "b"]) == expected
