# SPDX-License-Identifier: Apache-2.0
"""Features are the input of the logits layer, with both versions of Keras and for every form of the last layers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from learn2compress.compression.teacher.classifier import load_teacher
from learn2compress.compression.teacher.features import TeacherFeatures, find_feature_layer
from learn2compress.schemas.errors import TeacherError

LIBRARIES = pytest.mark.parametrize("library", [tf_keras, keras])


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def make(library: Any, folder: Path, end: Callable[[Any], list]) -> Any:
    model = library.Sequential(
        [
            library.Input((8, 8, 3)),
            library.layers.Conv2D(6, 3, activation="relu", name="conv"),
            *end(library.layers),
        ]
    )
    model.save(folder / "t.keras")
    return model


def check_averages(features: TeacherFeatures, conv: Any, images: np.ndarray) -> None:
    """Check that the features are the averaged maps of the convolution, and the logits those of the teacher."""
    expected = np.asarray(conv(tf.constant(images / np.float32(255)))).mean((1, 2))
    assert features.width == 6
    values, logits = features.features_and_logits(images)
    assert (values.shape, values.dtype) == ((5, 6), np.float32)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, features.teacher.logits(images), rtol=1e-5, atol=1e-6)


@LIBRARIES
@pytest.mark.parametrize(
    "end",
    [
        lambda k: [k.GlobalAveragePooling2D(), k.Dense(4, name="last")],
        lambda k: [k.GlobalAveragePooling2D(), k.Dropout(0.5), k.Dense(4, name="last"), k.Softmax()],
        lambda k: [k.GlobalAveragePooling2D(), k.Dense(4, name="last"), k.Activation("softmax"), k.Reshape((4,))],
        # A head of convolutions: its input is a map.
        lambda k: [k.Conv2D(4, 1, name="last"), k.GlobalAveragePooling2D(), k.Softmax()],
    ],
)
def test_find_feature_layer_finds_the_input_of_the_logits(
    library: Any, end: Callable, images: np.ndarray, tmp_path: Path
) -> None:
    model = make(library, tmp_path, end)
    teacher = load_teacher(tmp_path / "t.keras", scaling="unit")
    features = find_feature_layer(teacher)
    assert (features.layer, features.side) == ("last", "input")
    check_averages(features, model.get_layer("conv"), images)


@LIBRARIES
def test_find_feature_layer_accepts_a_named_layer(library: Any, images: np.ndarray, tmp_path: Path) -> None:
    model = make(library, tmp_path, lambda k: [k.Flatten(), k.Dense(4, name="last")])
    teacher = load_teacher(tmp_path / "t.keras", scaling="unit")
    features = find_feature_layer(teacher, "conv")
    assert (features.layer, features.side) == ("conv", "output")
    check_averages(features, model.get_layer("conv"), images)
    assert find_feature_layer(teacher).width == 6 * 6 * 6
    # Input and output of a layer are distinguished, although the layer has the same name.
    assert find_feature_layer(teacher, "last").features_and_logits(images)[0].shape == (5, 4)
    assert find_feature_layer(teacher).features_and_logits(images)[0].shape == (5, 216)


@LIBRARIES
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_find_feature_layer_works_behind_a_nested_backbone(
    library: Any, ending: str, images: np.ndarray, tmp_path: Path
) -> None:
    inner = library.Input((8, 8, 3))
    maps = library.layers.Conv2D(6, 3, activation="relu", name="conv")(inner)
    backbone = library.Model(inner, library.layers.GlobalAveragePooling2D()(maps), name="backbone")
    outer = library.Input((8, 8, 3))
    model = library.Model(outer, library.layers.Dense(4, activation="softmax", name="last")(backbone(outer)))
    model.save(tmp_path / f"t.{ending}")
    teacher = load_teacher(tmp_path / f"t.{ending}", scaling="unit")
    check_averages(find_feature_layer(teacher), backbone.get_layer("conv"), images)
    with pytest.raises(TeacherError, match=r"a plain layer of teacher .*; got the nested model 'backbone'. Name the"):
        find_feature_layer(teacher, "backbone")


@LIBRARIES
def test_find_feature_layer_follows_the_chosen_output(library: Any, images: np.ndarray, tmp_path: Path) -> None:
    image = library.Input((8, 8, 3))
    conv = library.layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    pooled = library.layers.GlobalAveragePooling2D()(conv)
    main = library.layers.Dense(4, name="main")(pooled)
    side = library.layers.Dense(2, name="side")(library.layers.Flatten()(conv))
    model = library.Model(image, [side, main])
    model.save(tmp_path / "t.keras")
    teacher = load_teacher(tmp_path / "t.keras", scaling="unit", output_name="main", class_order=[3, 0, 2])
    features = find_feature_layer(teacher)
    assert features.layer == "main"
    check_averages(features, model.get_layer("conv"), images)


@LIBRARIES
def test_find_feature_layer_works_with_a_fixed_batch(library: Any, images: np.ndarray, tmp_path: Path) -> None:
    image = library.Input((8, 8, 3), batch_size=2)
    conv = library.layers.Conv2D(6, 3, activation="relu", name="conv")
    pooled = library.layers.GlobalAveragePooling2D()(conv(image))
    library.Model(image, library.layers.Dense(4)(pooled)).save(tmp_path / "t.keras")
    check_averages(find_feature_layer(load_teacher(tmp_path / "t.keras", scaling="unit")), conv, images)


def test_find_feature_layer_refuses_a_saved_model(tmp_path: Path) -> None:
    model = tf_keras.Sequential([tf_keras.Input((8, 8, 3)), tf_keras.layers.Flatten(), tf_keras.layers.Dense(4)])
    model.export(tmp_path / "t")
    with pytest.raises(TeacherError, match=r"must be a .keras or .h5 file for its features.*got a SavedModel"):
        find_feature_layer(load_teacher(tmp_path / "t"))


@LIBRARIES
def test_find_feature_layer_refuses_an_unknown_name(library: Any, tmp_path: Path) -> None:
    make(library, tmp_path, lambda k: [k.GlobalAveragePooling2D(name="pool"), k.Dense(4, name="last")])
    with pytest.raises(TeacherError, match=r"got 'poll', where the last ones are .*conv, pool, last. Choose one"):
        find_feature_layer(load_teacher(tmp_path / "t.keras"), "poll")


@LIBRARIES
def test_find_feature_layer_refuses_when_the_last_layer_cannot_be_found(library: Any, tmp_path: Path) -> None:
    image = library.Input((8, 8, 3))
    pooled = library.layers.GlobalAveragePooling2D()(image)
    ends = [library.layers.Dense(4, activation="softmax")(pooled) for _ in range(2)]
    library.Model(image, library.layers.Average(name="mean")(ends)).save(tmp_path / "two.keras")
    with pytest.raises(TeacherError, match=r"layer 'mean' of teacher .* must have one input for features.*; got 2"):
        find_feature_layer(load_teacher(tmp_path / "two.keras"))
    image = library.Input((8, 8, 3))
    nested = library.Sequential([library.Input((8, 8, 3)), library.layers.Flatten(), library.layers.Dense(4)])
    library.Model(image, nested(image)).save(tmp_path / "nested.keras")
    with pytest.raises(TeacherError, match=r"must end in a Dense or convolution layer .*\(Sequential\) at its end"):
        find_feature_layer(load_teacher(tmp_path / "nested.keras"))


@LIBRARIES
def test_find_feature_layer_refuses_a_model_of_one_layer(library: Any, tmp_path: Path) -> None:
    layers = library.layers
    library.Sequential([library.Input((8, 8)), layers.Conv1D(4, 1), layers.GlobalMaxPooling1D()]).save(
        tmp_path / "t.keras"
    )
    with pytest.raises(TeacherError, match=r"must have layers before 'conv1d.*' for its features to be used; got none"):
        find_feature_layer(load_teacher(tmp_path / "t.keras"))


@LIBRARIES
def test_find_feature_layer_refuses_a_layer_that_is_used_twice(library: Any, tmp_path: Path) -> None:
    image = library.Input((8, 8, 3))
    twice = library.layers.Dense(6, name="twice")
    x = twice(library.layers.Dense(6)(library.layers.GlobalAveragePooling2D()(image)))
    library.Model(image, twice(x)).save(tmp_path / "t.keras")
    teacher = load_teacher(tmp_path / "t.keras")
    with pytest.raises(TeacherError, match=r"layer 'twice' of teacher .* must be used once for its features"):
        find_feature_layer(teacher, "twice")
    with pytest.raises(TeacherError, match="must end in a Dense or convolution layer that is called once"):
        find_feature_layer(teacher)


def test_features_refuses_nan(tmp_path: Path, images: np.ndarray) -> None:
    make(tf_keras, tmp_path, lambda k: [k.Flatten(), k.Dense(6, name="hidden"), k.Dense(4)])
    teacher = load_teacher(tmp_path / "t.keras")
    hidden = teacher.keras_model.get_layer("hidden")
    hidden.set_weights([np.full_like(w, np.nan) for w in hidden.get_weights()])
    with pytest.raises(TeacherError, match="must answer with finite numbers; got NaN for 5 of 5 examples"):
        find_feature_layer(teacher).features_and_logits(images)
