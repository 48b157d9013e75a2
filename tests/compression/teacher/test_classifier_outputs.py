# SPDX-License-Identifier: Apache-2.0
"""Which signature and output of a model serve, what they are, and which models are refused, with the reason."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from support.teachers import flat_scores, save, saved_function

from learn2compress.compression.teacher.classifier import load_teacher
from learn2compress.compression.teacher.models import keras_library
from learn2compress.schemas.errors import TeacherError

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
        (lambda x: flat_scores(x)[:, :0], "an output for each class; got none"),
        (lambda x: x, r"\[batch, classes\]; got \['batch', 8, 8, 3\]"),
        (lambda x: flat_scores(x) / tf.zeros([]) * 0, "finite numbers; got NaN for 16 of 16 examples"),
        (
            lambda x: tf.fill([tf.shape(x)[0], 3], float("inf")),
            "finite numbers; got Inf for 16 of 16 examples, first for example 0",
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
    with pytest.raises(TeacherError, match=r"got Inf for 1 of 7 examples, first for example 2. Check the teacher's"):
        teacher.logits(dark)


# Files that do not load.


@pytest.mark.parametrize("library", [tf_keras, keras])
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_load_teacher_names_a_missing_custom_layer(library: Any, ending: str, tmp_path: Path) -> None:
    class Swirl(library.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2

    keras_end(library, library.layers.Dense(4), Swirl()).save(tmp_path / f"t.{ending}")
    with pytest.raises(TeacherError, match=r"got .*Swirl'.*[Ee]xport (the model as )?a SavedModel"):
        load_teacher(tmp_path / f"t.{ending}")


@pytest.mark.parametrize("library", [tf_keras, keras])
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_load_teacher_runs_no_code_of_a_lambda_layer(library: Any, ending: str, tmp_path: Path) -> None:
    keras_end(library, library.layers.Lambda(lambda x: x * 2, name="double"), library.layers.Dense(4)).save(
        tmp_path / f"t.{ending}"
    )
    with pytest.raises(TeacherError, match="must not contain code; got the Lambda layer 'double'"):
        load_teacher(tmp_path / f"t.{ending}")


@pytest.mark.parametrize("library", [tf_keras, keras])
def test_load_teacher_refuses_weights_alone(library: Any, tmp_path: Path) -> None:
    keras_end(library, library.layers.Dense(4)).save_weights(tmp_path / "t.weights.h5")
    with pytest.raises(TeacherError, match="got only weights, without the model that they belong to"):
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
    with pytest.raises(
        TeacherError, match=r"must (load as a SavedModel|be a whole SavedModel); got: .*Export it again"
    ):
        load_teacher(path)


def test_keras_library_refuses_another_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert keras_library("keras2-h5") is tf_keras
    with pytest.raises(TeacherError, match=r"must run on TensorFlow; got the backend 'jax'. Set KERAS_BACKEND"):
        keras_library("keras3-keras")


# A single unit for two classes, a background class, outputs of one name, half precision.


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_load_teacher_reads_a_single_unit_as_two_classes(
    activation: str | None, images: np.ndarray, tmp_path: Path
) -> None:
    model = keras_end(tf_keras, tf_keras.layers.Dense(1, activation=activation))
    model.layers[-1].set_weights([np.array([[0.03], [-0.02], [0.01]]), np.array([-2.5])])
    model.save(tmp_path / "t.keras")
    teacher = load_teacher(tmp_path / "t.keras")
    logit = images.mean((1, 2)) @ np.array([0.03, -0.02, 0.01]) - 2.5
    assert (teacher.outputs, teacher.classes) == (1, 2)
    assert teacher.output == ("probabilities" if activation else "logits")
    np.testing.assert_allclose(teacher.logits(images), np.stack([0 * logit, logit], 1), rtol=1e-3, atol=1e-4)
    turned = load_teacher(tmp_path / "t.keras", class_order=[1, 0])
    np.testing.assert_allclose(turned.logits(images), teacher.logits(images)[:, ::-1])


def test_load_teacher_leaves_out_a_background_class(images: np.ndarray, tmp_path: Path) -> None:
    keras_end(tf_keras, tf_keras.layers.Dense(5)).save(tmp_path / "t.keras")
    whole, part = load_teacher(tmp_path / "t.keras"), load_teacher(tmp_path / "t.keras", skip_class=[0])
    assert (part.classes, part.class_order) == (4, (1, 2, 3, 4))
    np.testing.assert_allclose(part.logits(images), whole.logits(images)[:, 1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip_class": [5]}, r"must list outputs of teacher .*, from 0 to 4, .*got \[5\]"),
        ({"skip_class": [0], "class_order": [1, 2]}, "must not both be given"),
    ],
)
def test_load_teacher_refuses_a_wrong_class_to_skip(options: dict, message: str, tmp_path: Path) -> None:
    keras_end(tf_keras, tf_keras.layers.Dense(5)).save(tmp_path / "t.keras")
    with pytest.raises(TeacherError, match=message):
        load_teacher(tmp_path / "t.keras", **options)


def test_load_teacher_tells_outputs_of_one_name_apart(images: np.ndarray, tmp_path: Path) -> None:
    inner = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inner)
    body = keras.Model(inner, [keras.layers.Dense(4)(pooled), keras.layers.Dense(4)(pooled)], name="body")
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, body(image))
    model.save(tmp_path / "t.keras")
    with pytest.raises(TeacherError, match=r"got 0: body \[\?, 4\], 1: body \[\?, 4\]. Set teacher.output.*output: 1"):
        load_teacher(tmp_path / "t.keras")
    with pytest.raises(TeacherError, match="Choose one by its index"):
        load_teacher(tmp_path / "t.keras", output_name="body")
    for index, expected in enumerate(model(images.astype(np.float32))):
        teacher = load_teacher(tmp_path / "t.keras", output_name=str(index))
        np.testing.assert_allclose(teacher.logits(images), expected, rtol=1e-4, atol=1e-3)


def test_load_teacher_takes_probabilities_of_half_precision(images: np.ndarray, tmp_path: Path) -> None:
    def answer(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(tf.cast(tf.repeat(flat_scores(x), 20, axis=1), tf.bfloat16))

    teacher = load_teacher(saved_function(tmp_path, answer, tf.TensorSpec([None, 8, 8, 3])))
    assert teacher.output == "probabilities"
    assert np.abs(np.exp(teacher.logits(images)).sum(1) - 1).max() < 0.05
