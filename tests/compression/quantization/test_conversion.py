# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from learn2compress.compression.family.model import cut_students, normalize
from learn2compress.compression.quantization.conversion import (
    convert_float,
    convert_post_training,
    convert_quantization_aware,
)
from learn2compress.compression.quantization.qat import calibrate, quantization_aware, settle_weight_ranges
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.model_file import prove_full_int8, read_model

SYMMETRIC = Scaling(mean=[127.5], std=[127.5])  # for 8-bit files, in which the scale of the input normalizes


@pytest.fixture(scope="module")
def images(stripes):
    return stripes.draw(300, 9)[0]


@pytest.fixture(scope="module")
def aware(sparse_family, stripes):
    """The family after two epochs of quantization-aware training."""
    model = quantization_aware(sparse_family, keep_zeros=True)
    pixels, labels = stripes.draw(96, 0)
    calibrate(model, sparse_family, [normalize(pixels)])
    data = stripes.batches(pixels, labels, stripes.StripesTeacher().logits(pixels))
    trainer = JointTrainer(
        model,
        stripes.SPEC.students,
        Recipe("quantized", 2, 3, 1e-3, ema_decay=0.9),
        after_restore=lambda: settle_weight_ranges(model),
    )
    trainer.train(lambda _: data, stripes.batches(*stripes.draw(33, 1)))
    return model


@pytest.fixture(scope="module")
def files(sparse_family, aware, stripes):
    """Bytes by (student, variant); the variants ending in -ptq are quantized after training."""
    floating, trained = cut_students(sparse_family, stripes.SPEC.students), cut_students(aware, stripes.SPEC.students)
    pixels = stripes.draw(32, 0)[0]
    made = {}
    for name in stripes.SPEC.students:
        for variant in ("float32", "float16", "dynamic"):
            made[name, variant] = convert_float(floating[name], variant).to_bytes()
        for variant in ("int8", "uint8"):
            made[name, variant] = convert_quantization_aware(trained[name], variant).to_bytes()
            made[name, f"{variant}-ptq"] = convert_post_training(floating[name], variant, pixels).to_bytes()
    return made


def keras_probabilities(model, student: str, images, stripes) -> np.ndarray:
    logits = cut_students(model, stripes.SPEC.students)[student](normalize(images), training=False)
    return tf.nn.softmax(logits).numpy()


@pytest.mark.parametrize(("variant", "tolerance"), [("float32", 1e-4), ("float16", 5e-3), ("dynamic", 0.1)])
@pytest.mark.parametrize("student", ["small", "large"])
def test_float_files_predict_as_keras_from_raw_pixels(
    files, sparse_family, images, stripes, student, variant, tolerance
):
    found = open_model(files[student, variant]).predict(images)

    np.testing.assert_allclose(found, keras_probabilities(sparse_family, student, images, stripes), atol=tolerance)


@pytest.mark.parametrize("variant", ["int8", "uint8"])
@pytest.mark.parametrize("student", ["small", "large"])
def test_integer_files_agree_with_the_quantization_aware_model(files, aware, images, stripes, student, variant):
    found = open_model(files[student, variant], scaling=SYMMETRIC).predict(images)

    expected = keras_probabilities(aware, student, images, stripes)
    assert np.mean(found.argmax(-1) == expected.argmax(-1)) >= 0.98
    # Folded batch normalization changes single roundings by one step.
    assert np.abs(found - expected).mean() < 0.02


@pytest.mark.parametrize("variant", ["int8-ptq", "uint8-ptq"])
@pytest.mark.parametrize("student", ["small", "large"])
def test_post_training_files_agree_with_the_float_model(files, sparse_family, images, stripes, student, variant):
    found = open_model(files[student, variant], scaling=SYMMETRIC).predict(images)

    expected = keras_probabilities(sparse_family, student, images, stripes)
    assert np.mean(found.argmax(-1) == expected.argmax(-1)) >= 0.98


@pytest.mark.parametrize("variant", ["int8", "uint8", "int8-ptq", "uint8-ptq"])
def test_integer_files_have_no_float_tensor_and_represent_pixels_exactly(files, variant):
    model = read_model(files["large", variant])

    proof = prove_full_int8(model)
    kind = variant.removesuffix("-ptq")
    assert proof.holds, proof.reasons
    assert (proof.input_dtype, proof.output_dtype) == (kind, kind)
    # (pixel - 127.5) / 127.5: a step of the input is a pixel value; int8 is the pixel minus 128.
    assert model.input.scale[0] == pytest.approx(1 / 127.5, rel=1e-6)
    assert model.input.zero_point[0] in ({"int8": (-1, 0), "uint8": (127, 128)}[kind])


def test_integer_files_differ_only_in_the_types_of_pixels_and_scores(files, images):
    signed = open_model(files["large", "int8"], scaling=SYMMETRIC).predict(images)
    unsigned = open_model(files["large", "uint8"], scaling=SYMMETRIC).predict(images)

    np.testing.assert_array_equal(signed, unsigned)


def test_float_files_accept_pixels_of_any_brightness(files):
    found = open_model(files["small", "float32"])

    assert found.model.input.dtype == "float32"
    assert found.model.input.shape == (1, 8, 8, 1)


def test_files_name_their_input_and_output_for_an_app(files):
    for data in files.values():
        model = read_model(data)
        assert (model.input.name, model.output.name) == ("image", "probability")


def test_zeros_of_pruned_kernels_are_all_in_the_integer_file(files, aware, stripes):
    """Layer by layer: kernels are identified by their sizes, which all differ except for transposition."""
    layers = {layer.name for layer in cut_students(aware, stripes.SPEC.students)["large"].layers}
    kernels = [
        v
        for v in aware.trainable_variables
        if v.name.endswith("kernel:0") and f"quant_{v.name.split('/')[0]}" in layers
    ]
    expected = {int(np.prod(v.shape)): int(np.sum(v.numpy() == 0)) for v in kernels}
    pruned = {size: zeros for size, zeros in expected.items() if zeros}
    assert len(pruned) == 5  # four pointwise kernels and that of the logits

    model = read_model(files["large", "int8"])

    found = {t.elements: round(t.sparsity * t.elements) for t in model.tensors if t.sparsity is not None}
    # Rounding may add zeros, for weights under half a step; it never removes one.
    for size, zeros in pruned.items():
        assert zeros <= found[size] <= zeros + 0.03 * size, size


def test_sizes_of_the_variants_have_the_expected_order(files):
    size = {variant: len(data) for (student, variant), data in files.items() if student == "large"}

    # A large part of such a small student is not weights: scales for int8, an operator for each float16 kernel. And
    # dynamic does not quantize kernels of less than 1,024 weights.
    assert max(size["int8"], size["float16"]) < 0.8 * size["float32"]
    assert size["dynamic"] <= size["float32"]


def test_convert_post_training_refuses_no_images(sparse_family, stripes):
    student = cut_students(sparse_family, stripes.SPEC.students)["small"]

    with pytest.raises(DataError, match="representative images must be at least one; got none"):
        convert_post_training(student, "int8", [])
