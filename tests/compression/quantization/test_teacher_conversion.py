# SPDX-License-Identifier: Apache-2.0
"""The file of a teacher of any format predicts as the teacher does; a failed conversion gives its reason."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from learn2compress.compression.quantization.teacher_conversion import convert_teacher
from learn2compress.compression.teacher.classifier import load_teacher
from learn2compress.schemas.errors import DataError, TeacherError
from learn2compress.schemas.manifests import Task
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.model_file import prove_full_int8

SHAPE = (8, 8, 3)
TASK = Task(input_shape=SHAPE, classes=[*"abcd"])


@pytest.fixture(scope="module")
def images():
    """[24, 8, 8, 3] uint8 of different brightness and colour."""
    rng = np.random.default_rng(0)
    levels = rng.integers(20, 200, (24, 1, 1, 3))
    return np.clip(levels + rng.integers(-20, 56, (24, *SHAPE)), 0, 255).astype(np.uint8)


def build(library, softmax=False, shape=SHAPE, batch=None):
    """A classifier of 4 classes with clearly different scores."""
    layers = library.layers
    image = library.Input(shape, batch_size=batch)
    x = layers.Conv2D(6, 3, padding="same", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    model = library.Model(image, layers.Dense(4, activation="softmax" if softmax else None, name="scores")(x))
    rng = np.random.default_rng(1)
    model.get_layer("conv").set_weights([rng.normal(size=(3, 3, shape[2], 6)), rng.normal(size=6)])
    norm = [rng.uniform(0.5, 1.5, 6), rng.normal(size=6), rng.normal(size=6), rng.uniform(0.5, 1.5, 6)]
    model.get_layer("norm").set_weights(norm)
    model.get_layer("scores").set_weights([rng.normal(size=(6, 4)), rng.normal(size=4)])
    return model


def save(kind: str, folder: Path, **options) -> Path:
    library, way = kind.split()
    model = build({"keras3": keras, "keras2": tf_keras}[library], **options)
    path = folder / f"t{way}" if way.startswith(".") else folder / "t"
    if way == "export":
        model.export(str(path), verbose=False)
    else:
        model.save(str(path))
    return path


def agreement(data, teacher, images) -> tuple[float, float]:
    """The fraction of images with the same class, and the mean difference of probabilities."""
    expected = tf.nn.softmax(teacher.logits(images)).numpy()
    found = open_model(data).predict(images)
    return np.mean(found.argmax(1) == expected.argmax(1)), np.abs(found - expected).mean()


@pytest.mark.parametrize("kind", ["keras3 .keras", "keras3 .h5", "keras2 .keras", "keras2 .h5", "keras3 export"])
def test_convert_teacher_keeps_the_predictions_for_every_format(kind, images, tmp_path):
    teacher = load_teacher(save(kind, tmp_path), scaling="imagenet", example_shape=SHAPE)

    float32 = convert_teacher(teacher, TASK, "float32")
    int8 = convert_teacher(teacher, TASK, "int8", images)

    same, difference = agreement(float32, teacher, images)
    assert (same, difference) == (1.0, pytest.approx(0, abs=1e-5))
    same, difference = agreement(int8, teacher, images)
    assert same >= 0.85
    assert difference < 0.05
    file = open_model(int8).model
    assert prove_full_int8(file).holds
    # The input is that of the students' int8 files: pixel - 128.
    assert (file.input.scale, file.input.zero_point) == ((1.0,), (-128,))


@pytest.mark.parametrize("variant", ["float16", "dynamic"])
@pytest.mark.parametrize("softmax", [False, True])
def test_convert_teacher_keeps_a_softmax_and_a_class_order(variant, softmax, images, tmp_path):
    path = save("keras2 .keras", tmp_path, softmax=softmax)
    teacher = load_teacher(path, scaling="unit", class_order=[2, 0, 3], example_shape=SHAPE)

    data = convert_teacher(teacher, TASK, variant)

    assert open_model(data).classes == 3
    same, difference = agreement(data, teacher, images)
    assert same >= 0.95
    assert difference < 0.02
    assert open_model(data).predict(images).sum(axis=1) == pytest.approx(1, abs=1e-3)


def test_convert_teacher_resizes_inside_the_file(images, tmp_path):
    teacher = load_teacher(save("keras2 .keras", tmp_path, shape=(16, 16, 3)), resize=True, example_shape=SHAPE)

    data = convert_teacher(teacher, TASK, "float32")

    assert open_model(data).input_shape == SHAPE
    assert agreement(data, teacher, images) == (1.0, pytest.approx(0, abs=1e-5))


def test_convert_teacher_names_an_unsupported_operator(tmp_path):
    # TensorFlow Lite has no operator for resizing with antialiasing.
    teacher = load_teacher(save("keras2 .keras", tmp_path, shape=(4, 4, 3)), resize=True, example_shape=SHAPE)

    with pytest.raises(TeacherError, match=r"t\.keras cannot be converted to float16: .* for ScaleAndTranslate\.$"):
        convert_teacher(teacher, TASK, "float16")


def test_convert_teacher_keeps_operators_without_an_8_bit_implementation_in_float(images, tmp_path):
    class Sines(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32)])
        def __call__(self, pixels):
            return 3 * tf.sin(tf.reduce_mean(pixels, [1, 2]) / 30)

    model = Sines()
    tf.saved_model.save(model, str(tmp_path / "t"), signatures=model.__call__)
    teacher = load_teacher(tmp_path / "t", example_shape=SHAPE)

    data = convert_teacher(teacher, TASK, "int8", images)

    file = open_model(data).model
    assert (file.input.dtype, file.output.dtype) == ("int8", "int8")
    assert not prove_full_int8(file).holds
    assert agreement(data, teacher, images)[0] >= 0.9


def test_convert_teacher_refuses_a_fixed_batch(tmp_path):
    teacher = load_teacher(save("keras2 .keras", tmp_path, batch=4), example_shape=SHAPE)

    with pytest.raises(TeacherError, match=r"must take one image; t\.keras takes 4 at a time"):
        convert_teacher(teacher, TASK, "float16")


def test_convert_teacher_refuses_no_images(tmp_path):
    teacher = load_teacher(save("keras2 .keras", tmp_path), example_shape=SHAPE)

    with pytest.raises(DataError, match="representative images must be at least one; got none"):
        convert_teacher(teacher, TASK, "int8")


def test_convert_teacher_refuses_images_of_another_size(tmp_path):
    teacher = load_teacher(save("keras2 .keras", tmp_path), example_shape=SHAPE)

    with pytest.raises(TeacherError, match="images must be 8x8"):
        convert_teacher(teacher, TASK.model_copy(update={"input_shape": (9, 9, 3)}), "float16")
