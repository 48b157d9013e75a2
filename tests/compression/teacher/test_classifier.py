# SPDX-License-Identifier: Apache-2.0
"""A teacher answers the same from every format; what it is, is told by looking; each misfit has a message."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from learn2compress.compression.teacher.classifier import PROBABILITY_FLOOR, load_teacher
from learn2compress.compression.teacher.models import keras_library
from learn2compress.schemas.errors import ConfigError, TeacherError
from learn2compress.schemas.scaling import Scaling

CLASSES = 5
# conv 3x3 3->4 on 8x8, depthwise 3x3 on 4 channels, dense 4->5.
MACS = 64 * 27 * 4 + 64 * 9 * 4 + 4 * 5
PARAMETERS = (27 * 4 + 4) + 4 * 4 + (9 * 4 + 4) + (4 * 5 + 5)


def build(library: Any, activation: str | None, **input_options: Any) -> Any:
    """Make a small classifier of the layers that formats differ on, none of its values left at zero."""
    layers = library.layers
    image = library.Input((8, 8, 3), **input_options)
    x = layers.Conv2D(4, 3, padding="same", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = library.Model(image, layers.Dense(CLASSES, activation=activation, name="scores")(x))
    rng = np.random.default_rng(1)
    for layer in model.layers:
        layer.set_weights([rng.uniform(0.2, 1.5, w.shape) * rng.choice((-1, 1), w.shape) for w in layer.get_weights()])
    norm = model.get_layer("norm")
    norm.set_weights([np.abs(w) for w in norm.get_weights()])
    model.get_layer("scores").set_weights([rng.normal(size=(4, CLASSES)) / 2, rng.normal(size=CLASSES)])
    return model


class PlainModule(tf.Module):
    """A classifier of bare operations, as somebody without Keras would export one."""

    def __init__(self, softmax: bool) -> None:
        super().__init__()
        rng = np.random.default_rng(2)
        self.softmax = softmax
        self.kernel = tf.Variable(rng.normal(size=(3, 3, 3, 4)), dtype=tf.float32)
        self.depthwise = tf.Variable(rng.normal(size=(3, 3, 4, 1)), dtype=tf.float32)
        self.matrix = tf.Variable(rng.normal(size=(4, CLASSES)), dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="pixels")])
    def __call__(self, pixels: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(tf.nn.conv2d(pixels, self.kernel, 1, "SAME"))
        x = tf.nn.depthwise_conv2d(x, self.depthwise, [1, 1, 1, 1], "SAME")
        scores = tf.reduce_mean(x, [1, 2]) @ self.matrix
        return tf.nn.softmax(scores) if self.softmax else scores


def save(kind: str, activation: str | None, folder: Path) -> tuple[Path, Any]:
    """Save a new model in one of the ways that users do; return where, and the model itself."""
    if kind == "tf.Module":
        model = PlainModule(activation == "softmax")
        tf.saved_model.save(model, str(folder / "t"), signatures=model.__call__)
        return folder / "t", model
    library, way = kind.split(" ")
    model = build(keras if library == "keras3" else tf_keras, activation)
    path = folder / f"t{way}" if way.startswith(".") else folder / "t"
    if way == "export":
        model.export(str(path), verbose=False)
    elif way == "tf.saved_model.save":
        tf.saved_model.save(model, str(path))
    else:
        model.save(str(path))
    return path, model


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


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)


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


def saved_function(
    folder: Path, function: Callable[..., Any], *specs: tf.TensorSpec, name: str = "serving_default"
) -> Path:
    module = tf.Module()
    module.owner = function if isinstance(function, tf.Module) else None
    module.answer = tf.function(function, input_signature=specs, autograph=False)
    tf.saved_model.save(module, str(folder / "f"), signatures={name: module.answer})
    return folder / "f"


def flat_scores(x: tf.Tensor) -> tf.Tensor:
    """Three scores that depend on all pixels."""
    x = tf.cast(x, tf.float32)
    x = tf.reshape(x, [tf.shape(x)[0], -1])
    return tf.stack([tf.reduce_mean(x, 1), tf.reduce_max(x, 1), -tf.reduce_min(x, 1)], axis=1)


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


# Signatures and outputs to choose from.


def test_load_teacher_lets_a_signature_be_chosen(images: np.ndarray, tmp_path: Path) -> None:
    module = tf.Module()
    spec = [tf.TensorSpec([None, 8, 8, 3])]
    module.plain = tf.function(flat_scores, input_signature=spec)
    module.half = tf.function(lambda x: flat_scores(x) / 2 - 1, input_signature=spec)
    tf.saved_model.save(module, str(tmp_path / "two"), signatures={"plain": module.plain, "half": module.half})
    with pytest.raises(TeacherError, match=r"got half, plain. Set teacher.signature to one of them"):
        load_teacher(tmp_path / "two")
    with pytest.raises(TeacherError, match=r"teacher.signature must be one of half, plain; got 'third'"):
        load_teacher(tmp_path / "two", signature="third")
    chosen = load_teacher(tmp_path / "two", signature="half").logits(images)
    np.testing.assert_allclose(chosen, flat_scores(images) / 2 - 1, rtol=1e-5)
    tf.saved_model.save(
        module, str(tmp_path / "default"), signatures={"serving_default": module.half, "a": module.plain}
    )
    np.testing.assert_allclose(load_teacher(tmp_path / "default").logits(images), chosen)


def test_load_teacher_takes_the_only_signature_whatever_its_name(images: np.ndarray, tmp_path: Path) -> None:
    path = saved_function(tmp_path, flat_scores, tf.TensorSpec([None, 8, 8, 3]), name="predict_images")
    np.testing.assert_allclose(load_teacher(path).logits(images), flat_scores(images))


def test_load_teacher_refuses_a_saved_model_without_signature(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    with pytest.raises(TeacherError, match=r"must have a serving signature; got none. Export it with"):
        load_teacher(tmp_path / "none")


def test_load_teacher_refuses_a_signature_for_a_keras_file(tmp_path: Path) -> None:
    path, _ = save("keras2 .h5", None, tmp_path)
    with pytest.raises(TeacherError, match=r"teacher.signature must be left out for a Keras file; got 'serve'"):
        load_teacher(path, signature="serve")


def test_load_teacher_lets_an_output_of_a_saved_model_be_chosen(images: np.ndarray, tmp_path: Path) -> None:
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.range(3, dtype=tf.int64), ["a", "b", "c"]), ""
    )
    module = tf.Module()
    module.table = table

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3])])
    def answer(x: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = flat_scores(x / 255)
        return {"scores": scores, "probs": tf.nn.softmax(scores), "label": table.lookup(tf.argmax(scores, 1))}

    module.answer = answer
    tf.saved_model.save(module, str(tmp_path / "t"), signatures=answer)
    with pytest.raises(
        TeacherError, match=r"one output, or the choice of one; got .*probs \[\?, 3\].*teacher.output: "
    ):
        load_teacher(tmp_path / "t")
    with pytest.raises(TeacherError, match=r"teacher.output must name an output of .*; got 'logits', where there is"):
        load_teacher(tmp_path / "t", output_name="logits")
    probs, scores = (load_teacher(tmp_path / "t", output_name=name) for name in ("probs", "scores"))
    assert (probs.output, scores.output) == ("probabilities", "logits")
    np.testing.assert_allclose(scores.logits(images), flat_scores(images / 255), rtol=1e-5)
    np.testing.assert_allclose(tf.nn.softmax(probs.logits(images)), tf.nn.softmax(scores.logits(images)), rtol=1e-4)


@pytest.mark.parametrize("structure", ["list", "dict"])
@pytest.mark.parametrize("library", [tf_keras, keras])
def test_load_teacher_lets_an_output_of_a_keras_model_be_chosen(
    library: Any, structure: str, images: np.ndarray, tmp_path: Path
) -> None:
    image = library.Input((8, 8, 3), name="image")
    scores = library.layers.Dense(4, name="scores")(library.layers.GlobalAveragePooling2D()(image))
    probs = library.layers.Softmax(name="probs")(scores)
    model = (
        library.Model([image], [scores, probs])
        if structure == "list"
        else library.Model({"image": image}, {"scores": scores, "probs": probs})
    )
    model.save(tmp_path / "t.keras")
    with pytest.raises(TeacherError, match=r"got scores \[\?, 4\], probs \[\?, 4\]|got probs.*scores"):
        load_teacher(tmp_path / "t.keras")
    chosen = {name: load_teacher(tmp_path / "t.keras", output_name=name) for name in ("scores", "probs")}
    assert {name: teacher.output for name, teacher in chosen.items()} == {
        "scores": "logits",
        "probs": "probabilities",
    }
    with pytest.raises(TeacherError, match="got 'labels', where there is"):
        load_teacher(tmp_path / "t.keras", output_name="labels")
    kernel, bias = model.get_layer("scores").get_weights()
    expected = images.mean((1, 2)) @ kernel + bias
    np.testing.assert_allclose(chosen["scores"].logits(images), expected, rtol=1e-3, atol=1e-3)


# What the outputs are.


def keras_end(library: Any, *layers: Any) -> Any:
    return library.Sequential([library.Input((8, 8, 3)), library.layers.GlobalAveragePooling2D(), *layers])


@pytest.mark.parametrize("library", [tf_keras, keras])
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda k: [k.layers.Dense(4), k.layers.Activation("softmax")], "probabilities"),
        (lambda k: [k.layers.Dense(4), k.layers.Softmax(), k.layers.Reshape((4,))], "probabilities"),
        (lambda k: [k.layers.Dense(4), k.layers.Activation("log_softmax")], "logits"),
        (lambda k: [k.layers.Dense(4, activation="tanh")], "logits"),
        # Scores that lie in 0..1 on all images are told by where they come from.
        (lambda k: [k.layers.Dense(4, kernel_initializer="zeros", bias_initializer="ones")], "logits"),
    ],
)
def test_load_teacher_tells_logits_from_probabilities(
    library: Any, end: Callable[[Any], list], expected: str, tmp_path: Path
) -> None:
    keras_end(library, *end(library)).save(tmp_path / "t.keras")
    assert load_teacher(tmp_path / "t.keras", scaling="symmetric").output == expected


def test_load_teacher_sees_probabilities_without_a_softmax_at_the_end(tmp_path: Path) -> None:
    def mean_of_two(x: tf.Tensor) -> tf.Tensor:
        scores = flat_scores(x)
        return 0.5 * tf.nn.softmax(scores / 100) + 0.5 * tf.nn.softmax(scores / 50)

    path = saved_function(tmp_path, mean_of_two, tf.TensorSpec([None, 8, 8, 3]))
    assert load_teacher(path).output == "probabilities"


@pytest.mark.parametrize("library", [tf_keras, keras])
def test_load_teacher_refuses_sigmoid_outputs(library: Any, tmp_path: Path) -> None:
    keras_end(library, library.layers.Dense(4, activation="sigmoid")).save(tmp_path / "t.keras")
    with pytest.raises(TeacherError, match=r"probabilities that sum to 1; got numbers in 0..1 .*\(sigmoid\)"):
        load_teacher(tmp_path / "t.keras", scaling="unit")


def test_load_teacher_refuses_sigmoid_like_outputs_of_a_saved_model(tmp_path: Path) -> None:
    def answer(x: tf.Tensor) -> tf.Tensor:
        return 0.9 * tf.sigmoid(flat_scores(x) / 100 - 1)

    path = saved_function(tmp_path, answer, tf.TensorSpec([None, 8, 8, 3]))
    with pytest.raises(TeacherError, match=r"that sum to \d.\d\d..\d.\d\d, as of separate yes-or-no outputs"):
        load_teacher(path)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: flat_scores(x)[:, :1], "at least two outputs, one for each class; got 1"),
        (lambda x: x, r"\[batch, classes\]; got \['batch', 8, 8, 3\]"),
        (lambda x: flat_scores(x) / tf.zeros([]) * 0, "finite numbers; got NaN for 16 of 16 images"),
        (
            lambda x: tf.fill([tf.shape(x)[0], 3], float("inf")),
            "finite numbers; got Inf for 16 of 16 images, first for image 0",
        ),
        (
            lambda x: tf.ensure_shape(flat_scores(x), [1, 3]),
            r"must answer images of shape \[8, 8, 3\]; got: ",
        ),
    ],
)
def test_load_teacher_refuses_answers_that_are_none(answer: Callable, message: str, tmp_path: Path) -> None:
    path = saved_function(tmp_path, answer, tf.TensorSpec([None, None, None, 3]))
    with pytest.raises(TeacherError, match=message):
        load_teacher(path, example_shape=(8, 8, 3))


def test_logits_refuses_nan_on_some_images(images: np.ndarray, tmp_path: Path) -> None:
    path = saved_function(
        tmp_path, lambda x: tf.math.log(flat_scores(x)[:, :2] + 1 - 1), tf.TensorSpec([None, 8, 8, 3])
    )
    teacher = load_teacher(path)
    dark = np.array(images)
    dark[2] = 0
    with pytest.raises(TeacherError, match=r"got Inf for 1 of 7 images, first for image 2. Check the teacher's"):
        teacher.logits(dark)


# Files that do not load.


@pytest.mark.parametrize("library", [tf_keras, keras])
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_load_teacher_names_a_missing_custom_layer(library: Any, ending: str, tmp_path: Path) -> None:
    class Swirl(library.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2

    keras_end(library, library.layers.Dense(4), Swirl()).save(tmp_path / f"t.{ending}")
    with pytest.raises(TeacherError, match=r"got the custom object '(\w+>)?Swirl'.*Export the model as a SavedModel"):
        load_teacher(tmp_path / f"t.{ending}")


@pytest.mark.parametrize("library", [tf_keras, keras])
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_load_teacher_runs_no_code_of_a_lambda_layer(library: Any, ending: str, tmp_path: Path) -> None:
    keras_end(library, library.layers.Lambda(lambda x: x * 2, name="double"), library.layers.Dense(4)).save(
        tmp_path / f"t.{ending}"
    )
    with pytest.raises(TeacherError, match="must hold no code; got the Lambda layer 'double'"):
        load_teacher(tmp_path / f"t.{ending}")


@pytest.mark.parametrize("library", [tf_keras, keras])
def test_load_teacher_refuses_weights_alone(library: Any, tmp_path: Path) -> None:
    keras_end(library, library.layers.Dense(4)).save_weights(tmp_path / "t.weights.h5")
    with pytest.raises(TeacherError, match="got weights alone, without the model they belong to"):
        load_teacher(tmp_path / "t.weights.h5")


@pytest.mark.parametrize("library", [tf_keras, keras])
def test_load_teacher_refuses_a_model_that_never_saw_an_input(library: Any, tmp_path: Path) -> None:
    library.Sequential([library.layers.Flatten(), library.layers.Dense(4)]).save(tmp_path / "t.keras")
    with pytest.raises(TeacherError, match="built of layers on a known input; got Sequential without one"):
        load_teacher(tmp_path / "t.keras")


def test_load_teacher_says_what_keras_says(tmp_path: Path) -> None:
    import h5py

    path, _ = save("keras2 .h5", None, tmp_path)
    with h5py.File(path, "r+") as file:
        del file["model_weights"]
    with pytest.raises(
        TeacherError, match=r"must load as a model of Keras 2\.\d+\.\d+; got: .*Save it again"
    ) as raised:
        load_teacher(path)
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize("damage", ["graph", "values", "no values"])
def test_load_teacher_refuses_a_damaged_saved_model(damage: str, tmp_path: Path) -> None:
    path, _ = save("keras2 save", None, tmp_path)
    if damage == "no values":
        shutil.rmtree(path / "variables")
    else:
        file = path / ("saved_model.pb" if damage == "graph" else "variables/variables.data-00000-of-00001")
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    with pytest.raises(TeacherError, match=r"must load as a SavedModel; got: .*Export it again"):
        load_teacher(path)


def test_keras_library_refuses_another_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert keras_library("keras2-h5") is tf_keras
    with pytest.raises(TeacherError, match=r"must run on TensorFlow; got the backend 'jax'. Set KERAS_BACKEND"):
        keras_library("keras3-keras")
