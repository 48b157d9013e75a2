# SPDX-License-Identifier: Apache-2.0
"""A teacher's logits are the same from every format, for every kind of input; each misfit of an input has a message."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from support.teachers import CLASSES, MACS, PARAMETERS, build, flat_scores, save, saved_function

from learn2compress.compression.teacher.classifier import PROBABILITY_FLOOR, load_teacher
from learn2compress.schemas.errors import ConfigError, TeacherError
from learn2compress.schemas.scaling import Scaling

KINDS = {
    "keras3 .keras": "keras3-keras",
    "keras3 .h5": "keras3-h5",
    "keras2 .keras": "keras2-keras",
    "keras2 .h5": "keras2-h5",
    "keras2 save": "saved-model",
    "keras2 tf.saved_model.save": "saved-model",
    "keras3 tf.saved_model.save": "saved-model",
    "keras3 export": "saved-model",
    "tf.Module": "saved-model",
}


@pytest.mark.parametrize("activation", ["softmax", None])
@pytest.mark.parametrize("kind", KINDS)
def test_load_teacher_answers_as_the_model_that_was_saved(
    kind: str, activation: str | None, images: np.ndarray, tmp_path: Path
) -> None:
    path, model = save(kind, activation, tmp_path)
    expected = np.asarray(model(tf.constant(images / np.float32(255))))
    teacher = load_teacher(path, scaling="unit")
    assert teacher.format == KINDS[kind]
    assert teacher.output == ("probabilities" if activation else "logits")
    assert teacher.opened.input.shape == (8, 8, 3)
    assert teacher.classes == teacher.outputs == CLASSES
    assert teacher.macs == MACS
    assert teacher.parameters == (PARAMETERS if kind != "tf.Module" else 27 * 4 + 9 * 4 + 4 * 5)
    assert teacher.trainable == (KINDS[kind] != "saved-model")
    assert (teacher.keras_model is not None) == teacher.trainable
    logits = teacher.logits(images)
    assert (logits.shape, logits.dtype) == ((7, CLASSES), np.float32)
    wanted = np.log(np.maximum(expected, PROBABILITY_FLOOR)) if activation else expected
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)
    # Nor is the answer always the same, which would hide a model that does not see its input.
    assert np.ptp(wanted, axis=0).min() > 1e-3


@pytest.mark.parametrize("kind", ["keras3 .keras", "keras2 .h5", "keras3 export"])
def test_tf_logits_serves_in_the_graph_of_a_tf_keras_training_step(
    kind: str, images: np.ndarray, tmp_path: Path
) -> None:
    path, _ = save(kind, "softmax", tmp_path)
    teacher = load_teacher(path, scaling="unit")
    student = tf_keras.Sequential([tf_keras.Input((8, 8, 3)), tf_keras.layers.Flatten(), tf_keras.layers.Dense(5)])
    shapes = []

    @tf.function
    def step(batch: tf.Tensor) -> tf.Tensor:
        logits = teacher.tf_logits(batch)
        shapes.append(logits.shape.as_list())
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((student(tf.cast(batch, tf.float32)) - logits) ** 2)
        return tf.stack([tf.norm(g) for g in tape.gradient(loss, student.trainable_variables)])

    assert step(tf.constant(images)).numpy().min() > 0
    assert shapes == [[7, CLASSES]]
    whole = teacher.tf_logits(tf.constant(images)).numpy()
    np.testing.assert_allclose(whole, teacher.logits(images), rtol=1e-4, atol=1e-4)
    # Views are floats in 0..255.
    np.testing.assert_allclose(teacher.logits(images.astype(np.float32)), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["keras3 .keras", "keras2 .h5"])
def test_tf_logits_lets_a_keras_teacher_be_trained(kind: str, images: np.ndarray, tmp_path: Path) -> None:
    path, _ = save(kind, None, tmp_path)
    teacher = load_teacher(path, scaling="unit")
    variables = teacher.keras_model.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(teacher.tf_logits(tf.constant(images), training=True) ** 2)
    gradients = tape.gradient(loss, [getattr(v, "value", v) if kind == "keras3 .keras" else v for v in variables])
    assert len(gradients) == 8
    assert all(gradient is not None for gradient in gradients)
    trained = teacher.tf_logits(tf.constant(images), training=True)
    assert np.abs(trained - teacher.logits(images)).max() > 1e-3  # batch statistics, not moving ones


def test_logits_of_many_images_are_those_of_each(tmp_path: Path) -> None:
    path, _ = save("keras2 .h5", None, tmp_path)
    teacher = load_teacher(path, scaling="unit")
    images = np.random.default_rng(3).integers(0, 256, (600, 8, 8, 3), dtype=np.uint8)
    whole = teacher.logits(images)
    assert whole.shape == (600, CLASSES)
    np.testing.assert_allclose(whole[599:], teacher.logits(images[599:]), rtol=1e-4, atol=1e-5)
    assert teacher.logits(images[:0]).shape == (0, CLASSES)


@pytest.mark.parametrize("name", ["unit", "symmetric", "imagenet", "caffe"])
def test_load_teacher_scales_pixels(name: str, images: np.ndarray, tmp_path: Path) -> None:
    path, model = save("keras2 .h5", None, tmp_path)
    scaling = Scaling.named(name)
    pixels = images.astype(np.float32)
    if name == "caffe":
        pixels = pixels[..., ::-1]
    mean, std = scaling.for_channels(3)
    expected = model((pixels - np.float32(mean)) / np.float32(std)).numpy()
    np.testing.assert_allclose(load_teacher(path, scaling=name).logits(images), expected, rtol=1e-3, atol=1e-3)
    again = load_teacher(path).with_scaling(scaling).logits(images)
    np.testing.assert_allclose(again, expected, rtol=1e-3, atol=1e-3)


def test_load_teacher_refuses_an_unknown_scaling(tmp_path: Path) -> None:
    path, _ = save("keras2 .h5", None, tmp_path)
    with pytest.raises(ConfigError, match="scaling must be one of"):
        load_teacher(path, scaling="half")


def test_load_teacher_goes_by_content_and_not_by_name(images: np.ndarray, tmp_path: Path) -> None:
    for kind in ("keras3 .keras", "keras3 .h5", "keras2 .keras", "keras2 .h5"):
        path, model = save(kind, None, tmp_path)
        renamed = path.rename(tmp_path / "teacher-artifact")
        expected = np.asarray(model(tf.constant(images, tf.float32)))
        np.testing.assert_allclose(load_teacher(renamed).logits(images), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("kind", ["keras3 .keras", "keras2 .h5"])
def test_class_order_rearranges_and_selects_outputs(kind: str, images: np.ndarray, tmp_path: Path) -> None:
    path, _ = save(kind, "softmax", tmp_path)
    plain = load_teacher(path).logits(images)
    teacher = load_teacher(path, class_order=[3, 0, 4])
    assert (teacher.classes, teacher.outputs) == (3, 5)
    np.testing.assert_allclose(teacher.logits(images), plain[:, [3, 0, 4]])


@pytest.mark.parametrize("order", [[0, 0, 1], [0, 5], [-1, 2], [0]])
def test_class_order_is_checked(order: list[int], tmp_path: Path) -> None:
    path, _ = save("keras2 .h5", None, tmp_path)
    with pytest.raises(TeacherError, match=r"class_order must list different outputs.*from 0 to 4"):
        load_teacher(path, class_order=order)


# Inputs of other kinds.


@pytest.mark.parametrize("dtype", [tf.uint8, tf.int32, tf.int64, tf.float16, tf.float32, tf.float64])
def test_load_teacher_takes_pixels_of_any_number_type(dtype: tf.DType, images: np.ndarray, tmp_path: Path) -> None:
    path = saved_function(tmp_path, flat_scores, tf.TensorSpec([None, 8, 8, 3], dtype))
    teacher = load_teacher(path)
    np.testing.assert_allclose(teacher.logits(images), flat_scores(tf.constant(images)), rtol=1e-3)
    # A fractional view is rounded, not cut off, for a model of whole pixels.
    views = np.full((1, 8, 8, 3), 99.75, np.float32)
    assert teacher.logits(views)[0, 0] == pytest.approx(100 if dtype.is_integer else 99.75, abs=0.05)
    assert teacher.parameters is None
    assert teacher.macs == 0


def test_load_teacher_refuses_to_scale_for_a_model_of_whole_pixels(tmp_path: Path) -> None:
    path = saved_function(tmp_path, flat_scores, tf.TensorSpec([None, 8, 8, 3], tf.uint8))
    with pytest.raises(TeacherError, match=r"scaling must be none for .*uint8 pixels; got 'unit'"):
        load_teacher(path, scaling="unit")
    with pytest.raises(TeacherError, match="scaling must be none"):
        load_teacher(path).with_scaling(Scaling.named("unit"))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("kind", ["saved-model", "keras2", "keras3"])
def test_a_fixed_batch_takes_any_number_of_images(kind: str, batch: int, images: np.ndarray, tmp_path: Path) -> None:
    if kind == "saved-model":
        free = build(tf_keras, None)
        path = saved_function(tmp_path, free, tf.TensorSpec([batch, 8, 8, 3], tf.float32))
    else:
        library = {"keras2": tf_keras, "keras3": keras}[kind]
        path = tmp_path / "t.keras"
        free, fixed = build(library, None), build(library, None, batch_size=batch)
        fixed.set_weights(free.get_weights())
        fixed.save(path)
    teacher = load_teacher(path, scaling="unit")
    assert teacher.opened.input.batch == batch
    assert teacher.macs == MACS
    expected = np.asarray(free(tf.constant(images / np.float32(255))))
    np.testing.assert_allclose(teacher.logits(images), expected, rtol=1e-4, atol=1e-4)
    in_graph = tf.function(teacher.tf_logits, autograph=False)(tf.constant(images))
    assert in_graph.shape.as_list() == [7, CLASSES]
    np.testing.assert_allclose(in_graph, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("library", [tf_keras, keras])
def test_a_model_without_a_channel_axis_takes_grey_images(library: Any, tmp_path: Path) -> None:
    model = library.Sequential(
        [library.Input((8, 8)), library.layers.Flatten(), library.layers.Dense(3, name="scores")]
    )
    model.save(tmp_path / "t.keras")
    grey = np.random.default_rng(5).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    teacher = load_teacher(tmp_path / "t.keras", scaling="unit")
    assert teacher.opened.input.shape == (8, 8, 1)
    expected = np.asarray(model(grey[..., 0] / np.float32(255)))
    np.testing.assert_allclose(teacher.logits(grey), expected, rtol=1e-4, atol=1e-5)


def test_a_model_of_any_size_is_measured_at_the_datas(tmp_path: Path) -> None:
    layers = tf_keras.layers
    tf_keras.Sequential(
        [tf_keras.Input((None, None, 1)), layers.Conv2D(2, 3), layers.GlobalMaxPooling2D(), layers.Dense(3)]
    ).save(tmp_path / "t.h5")
    unknown, known = load_teacher(tmp_path / "t.h5"), load_teacher(tmp_path / "t.h5", example_shape=(10, 6, 1))
    assert unknown.opened.input.shape == (None, None, 1)
    assert unknown.macs is None
    assert known.macs == 8 * 4 * 9 * 2 + 2 * 3
    for side in (5, 12):
        assert known.logits(np.zeros((2, side, side, 1), np.uint8)).shape == (2, 3)


def test_a_signature_without_a_shape_takes_the_datas(tmp_path: Path) -> None:
    path = saved_function(tmp_path, flat_scores, tf.TensorSpec(None, tf.float32))
    teacher = load_teacher(path, example_shape=(5, 4, 1))
    assert teacher.opened.input.shape == (None, None, None)
    assert teacher.logits(np.full((2, 5, 4, 1), 9, np.uint8)).tolist() == [[9, 9, -9]] * 2


@pytest.mark.parametrize("dtype", [tf.float32, tf.uint8])
def test_resize_shows_images_of_another_size(dtype: tf.DType, tmp_path: Path) -> None:
    path = saved_function(tmp_path, flat_scores, tf.TensorSpec([None, 8, 8, 3], dtype))
    teacher = load_teacher(path, resize=True)
    large = np.zeros((2, 16, 16, 3), np.uint8)
    large[:, :, 8:] = 200
    small = teacher.logits(large)
    np.testing.assert_allclose(small, [[100, 200, 0]] * 2, atol=1)
    same = np.full((1, 8, 8, 3), 7, np.uint8)
    np.testing.assert_allclose(teacher.logits(same), [[7, 7, -7]])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 8, 8, 1), r"3 channel\(s\) that teacher .* takes; got 1, grey images for a colour model"),
        (
            (2, 8, 9, 3),
            r"must be 8x8, as teacher .* takes them; got 8x9. Set data.height: 8 and data.width: 8",
        ),
        ((2, 8, 8), r"must be \[batch, height, width, channels\]; got 3 dimensions"),
    ],
)
def test_logits_refuses_images_that_do_not_fit(shape: tuple[int, ...], message: str, tmp_path: Path) -> None:
    path, _ = save("keras2 .h5", None, tmp_path)
    with pytest.raises(TeacherError, match=message):
        load_teacher(path).logits(np.zeros(shape, np.uint8))


def test_a_scaling_for_colour_does_not_fit_a_grey_model(tmp_path: Path) -> None:
    path = saved_function(tmp_path, flat_scores, tf.TensorSpec([None, 8, 8, 1], tf.float32))
    with pytest.raises(TeacherError, match=r"must suit images of 1 channel\(s\) .*; got 'imagenet'"):
        load_teacher(path, scaling="imagenet")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            tf.TensorSpec([None, 3, 32, 32]),
            r"channels last; got \[\?, 3, 32, 32\], channels first.*tf.transpose",
        ),
        (tf.TensorSpec([None, 1, None, None]), r"channels last; got \[\?, 1, \?, \?\], channels first"),
        (tf.TensorSpec([None, 784]), r"must take images .* an input of shape \[\?, 784\]"),
        (tf.TensorSpec([None, 8, 8, 3], tf.string), "got an input of encoded images or other strings"),
        (tf.TensorSpec([None, 8, 8, 3], tf.int8), "got an input of int8"),
    ],
)
def test_load_teacher_refuses_inputs_that_are_no_images(spec: tf.TensorSpec, message: str, tmp_path: Path) -> None:
    def count(x: tf.Tensor) -> tf.Tensor:
        return tf.zeros([tf.shape(x)[0], 3])

    with pytest.raises(TeacherError, match=message):
        load_teacher(saved_function(tmp_path, count, spec))


def test_load_teacher_refuses_several_inputs(tmp_path: Path) -> None:
    spec = tf.TensorSpec([None, 8, 8, 3])
    path = saved_function(tmp_path, lambda left, right: flat_scores(left + right), spec, spec)
    with pytest.raises(TeacherError, match="images as its one input; got 2 inputs: left, right"):
        load_teacher(path)
    for library in (tf_keras, keras):
        inputs = [library.Input((8, 8, 3), name=name) for name in ("left", "right")]
        merged = library.layers.Flatten()(library.layers.Add()(inputs))
        library.Model(inputs, library.layers.Dense(2)(merged)).save(tmp_path / "two.keras")
        with pytest.raises(TeacherError, match="got 2 inputs: left, right"):
            load_teacher(tmp_path / "two.keras")
