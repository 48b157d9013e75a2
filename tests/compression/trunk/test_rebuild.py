# SPDX-License-Identifier: Apache-2.0
import keras
import numpy as np
import pytest
import tf_keras
from support.photographs import SHAPE, SIDE, inverted_residuals, pixels, shake

from learn2compress.compression.trunk.folding import fold_batch_norms
from learn2compress.compression.trunk.rebuild import rebuild
from learn2compress.compression.trunk.scaling import with_student_input
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.scaling import PRESETS, Scaling


def test_rebuild_gives_the_same_outputs_without_nested_models(network):
    images = pixels().astype(np.float32)
    rebuilt = rebuild(network, "teacher", SHAPE)
    np.testing.assert_allclose(rebuilt(images), np.asarray(network(images)), rtol=1e-4, atol=1e-4)
    kinds = {type(layer).__name__ for layer in rebuilt.layers}
    assert not kinds & {"Functional", "Dropout"}
    assert all(type(layer).__module__.startswith("tf_keras") for layer in rebuilt.layers)


def test_fold_batch_norms_leaves_no_batch_normalization_and_the_same_outputs(network):
    images = pixels().astype(np.float32) / 255
    rebuilt = rebuild(network, "teacher", SHAPE)
    folded = fold_batch_norms(rebuilt)
    np.testing.assert_allclose(folded(images), rebuilt(images), rtol=1e-4, atol=1e-4)
    assert "BatchNormalization" not in {type(layer).__name__ for layer in folded.layers}


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_with_student_input_computes_the_scaling_of_the_teacher(preset):
    scaling = Scaling.named(preset)
    model = shake(inverted_residuals(keras))
    folded = fold_batch_norms(rebuild(model, "teacher", SHAPE))
    scaled = with_student_input(folded, scaling)
    shown = pixels().astype(np.float32)
    ordered = shown[..., ::-1] if scaling.channel_order == "bgr" else shown
    expected = folded((ordered - np.array(scaling.mean, np.float32)) / np.array(scaling.std, np.float32))
    np.testing.assert_allclose(scaled(shown / 127.5 - 1), expected, rtol=1e-3, atol=1e-3)


def test_with_student_input_folds_a_scaling_that_is_nearly_that_of_students():
    image = tf_keras.Input((8, 8, 3))
    x = tf_keras.layers.Conv2D(4, 3, padding="same")(image)
    model = shake(tf_keras.Model(image, tf_keras.layers.GlobalAveragePooling2D()(x)))
    scaled = with_student_input(model, Scaling(mean=(127.0,), std=(128.0,)))
    assert [type(layer).__name__ for layer in scaled.layers] == ["InputLayer", "Conv2D", "GlobalAveragePooling2D"]
    shown = pixels(2, 8).astype(np.float32)
    np.testing.assert_allclose(scaled(shown / 127.5 - 1), model((shown - 127) / 128), rtol=1e-2, atol=1e-2)


def test_rebuild_keeps_shared_layers_shared():
    image = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same")
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(shared(shared(image))))
    rebuilt = rebuild(model, "teacher", (8, 8, 3))
    assert sum(isinstance(layer, tf_keras.layers.Conv2D) for layer in rebuilt.layers) == 1


@pytest.mark.parametrize("activation", ["relu6", "silu", "hard_silu", "hard_sigmoid", "gelu"])
def test_rebuild_translates_the_activations_of_keras_3(activation):
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, activation=activation)(image)
    x = keras.layers.Activation(activation)(x) + 1.5
    rebuilt = rebuild(keras.Model(image, x * 2.0), "teacher", (6, 6, 3))
    assert rebuilt.output_shape == (None, 4, 4, 4)


def test_rebuild_translates_normalization_to_a_rescaling():
    image = keras.Input((6, 6, 3))
    normal = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 1.0, 9.0])
    rebuilt = rebuild(keras.Model(image, keras.layers.Conv2D(2, 3)(normal(image))), "teacher", (6, 6, 3))
    assert "Normalization" not in {type(layer).__name__ for layer in rebuilt.layers}


class Subclassed(keras.Model):
    def call(self, x):
        return x


def test_rebuild_names_what_it_cannot_rebuild():
    with pytest.raises(TeacherError, match=r"is a SavedModel"):
        rebuild(None, "teacher", SHAPE)
    with pytest.raises(TeacherError, match=r"subclassed model Subclassed"):
        rebuild(Subclassed(), "teacher", SHAPE)
    image = keras.Input((8, 8, 3))
    odd = keras.Model(image, keras.layers.Lambda(lambda x: x + 1, output_shape=(8, 8, 3), name="odd")(image))
    with pytest.raises(TeacherError, match=r"layer 'odd' \(Lambda\).* distill.init: features"):
        rebuild(odd, "teacher", (8, 8, 3))
    resized = keras.Model(image, keras.layers.Resizing(SIDE, SIDE, name="fit")(image))
    with pytest.raises(TeacherError, match=r"layer 'fit' \(Resizing\).*resizes images of 8x8"):
        rebuild(resized, "teacher", (8, 8, 3))
