# SPDX-License-Identifier: Apache-2.0
"""Provides models for tests of algorithms: a small student in all variants of the converter, and a sparse family."""

import numpy as np
import pytest

from support.shared import made_once

VARIANTS = ("float32", "float16", "dynamic", "int8", "uint8", "int8-float-ends")


@pytest.fixture(scope="session")
def pixels():
    """Images of noise, [40, 12, 12, 3] uint8."""
    return np.random.default_rng(7).integers(0, 256, (40, 12, 12, 3), np.uint8)


@pytest.fixture(scope="session")
def keras_student():
    """Student of floats 0..255 [n, 12, 12, 3] with probabilities of 4 classes; half of its pointwise kernel is zero.

    Parameters by hand: rescaling 2, convolution 27·8+8, depthwise 9·8+8, pointwise 8·8+8, dense 8·4+4: 414.
    Multiply-accumulates: 144·8·27 + 144·8·9 + 144·8·8 + 8·4 = 50,720.
    """
    import tf_keras as keras

    keras.utils.set_random_seed(3)
    image = keras.Input((12, 12, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    x = trunk = keras.layers.Conv2D(8, 3, padding="same", activation="relu", bias_initializer="uniform")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu", bias_initializer="uniform")(x)
    x = keras.layers.Conv2D(8, 1, name="pointwise")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([trunk, x]))
    model = keras.Model(image, keras.layers.Dense(4, activation="softmax")(x))
    pointwise = model.get_layer("pointwise")
    kernel, bias = pointwise.get_weights()
    kernel[:, :, :4] = 0
    pointwise.set_weights([kernel, bias])
    # The scores differ strongly, so that differences between files are detected.
    dense = model.layers[-1]
    kernel, bias = dense.get_weights()
    # The bias is not zero, because the converter drops a bias of zeros.
    dense.set_weights([4 * kernel, bias + np.array([0.1, -0.1, 0.2, 0.0])])
    return model


@pytest.fixture(scope="session")
def tflite_models(request, tmp_path_factory):
    """Bytes of the student's .tflite files by variant, as written by the converter."""

    def make(folder):
        for variant, data in converted(request.getfixturevalue("keras_student")).items():
            (folder / variant).write_bytes(data)

    folder = made_once(tmp_path_factory, "tflite-models", make)
    return {variant: (folder / variant).read_bytes() for variant in VARIANTS}


def converted(keras_student):
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3)).astype(np.float32)

    def convert(variant):
        converter = tf.lite.TFLiteConverter.from_keras_model(keras_student)
        if variant != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if variant == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if "int8" in variant:
            converter.representative_dataset = lambda: ([image[None]] for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        if variant in ("int8", "uint8"):
            converter.inference_input_type = converter.inference_output_type = getattr(tf, variant)
        return converter.convert()

    return {variant: convert(variant) for variant in VARIANTS}


@pytest.fixture(scope="module")
def sparse_family(stripes, trained_weights):
    """Trained family in which half of the weights are zero."""
    from learn2compress.compression.family.model import build_family
    from learn2compress.compression.pruning.magnitude import prune_while_training

    model = build_family(stripes.SPEC, seed=1)
    model.set_weights(trained_weights)
    prune_while_training(model, 0.5, total_steps=1).before_step(0)
    return model
