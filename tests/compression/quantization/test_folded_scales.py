# SPDX-License-Identifier: Apache-2.0
"""Channels with a batch normalization scale near zero, in files of students with quantization-aware training."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.model import normalize
from learn2compress.compression.quantization.conversion import convert_quantization_aware
from learn2compress.compression.quantization.folded_scales import sound_scales
from learn2compress.compression.quantization.qat import calibrate, quantization_aware
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.model_file import prove_full_int8

KERNELS = ("conv", "depthwise")
SYMMETRIC = Scaling(mean=[127.5], std=[127.5])  # for 8-bit files, in which the scale of the input normalizes


def student(activation: str | None = None) -> keras.Model:
    """A convolution with a bias and a depthwise one of two channels each, both normalized; no weight is 0 or 1."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, activation=activation, name="conv")(image)
    x = keras.layers.ReLU(6, name="conv_relu")(keras.layers.BatchNormalization(name="conv_bn")(x))
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depthwise")(x)
    x = keras.layers.ReLU(6, name="relu")(keras.layers.BatchNormalization(name="depthwise_bn")(x))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, keras.layers.Dense(3, name="logits")(x), name="student")
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(rng.uniform(-0.4, 0.8, variable.shape))
    for name in KERNELS:
        normalization = model.get_layer(f"{name}_bn")
        normalization.moving_variance.assign(rng.uniform(0.5, 1.5, normalization.moving_variance.shape))
    return model


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(2).integers(0, 256, (16, 8, 8, 3), np.uint8)


def aware_of(model: keras.Model, pixels: np.ndarray, output_only: tuple[str, ...] = ()) -> keras.Model:
    aware = quantization_aware(model, True, output_only)
    calibrate(aware, model, [normalize(pixels)])
    return aware


def set_channels(model: keras.Model, gamma: float, beta: float, channels: slice) -> None:
    for name in KERNELS:
        normalization = model.get_layer(f"{name}_bn")
        for variable, value in ((normalization.gamma, gamma), (normalization.beta, beta)):
            values = variable.numpy()
            values[channels] = value
            variable.assign(values)


@pytest.mark.parametrize(
    ("gamma", "beta", "channels"),
    [(0.0, 2.0, slice(1, 2)), (1e-7, 3.0, slice(1, 4)), (-1e-38, 3.0, slice(1, 2)), (0.0, 1.5, slice(None))],
)
def test_sound_scales_gives_a_full_int8_file_with_the_same_outputs_for_dead_channels(pixels, gamma, beta, channels):
    model = student()
    set_channels(model, gamma, beta, channels)

    data = convert_quantization_aware(aware_of(model, pixels), "int8")

    assert prove_full_int8(data.facts).reasons == []
    answers = open_model(data, scaling=SYMMETRIC).predict(pixels)
    np.testing.assert_allclose(answers, tf.nn.softmax(model(normalize(pixels))), atol=0.02)


def test_sound_scales_keeps_the_function_and_restores_the_weights(pixels):
    model = student()
    set_channels(model, 1e-4, 3.0, slice(1, 4))
    aware = aware_of(model, pixels)
    floating = keras.Model(aware.input, aware.get_layer("quant_relu").output)
    weights, answers = aware.get_weights(), floating(normalize(pixels)).numpy()

    with sound_scales(aware):
        changed = [not np.array_equal(old, new) for old, new in zip(weights, aware.get_weights(), strict=True)]
        np.testing.assert_allclose(floating(normalize(pixels)), answers, atol=0.03)
        for name in KERNELS:
            normalization = aware.get_layer(f"quant_{name}_bn").layer
            factor = normalization.gamma / tf.sqrt(normalization.moving_variance + normalization.epsilon)
            assert np.min(np.abs(factor)) > 1e-4, name

    assert sum(changed) == 7  # two kernels, means and gammas; a bias
    for old, new in zip(weights, aware.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_sound_scales_changes_nothing_without_dead_or_folded_channels(pixels):
    healthy, between = student(), student("relu")
    set_channels(between, 0.0, 2.0, slice(1, 2))
    between.get_layer("depthwise_bn").gamma.assign(healthy.get_layer("depthwise_bn").gamma)
    set_channels(healthy, 0.3, 0.3, slice(None))
    for aware in (aware_of(healthy, pixels), aware_of(between, pixels, ("conv_bn",))):
        weights = aware.get_weights()
        with sound_scales(aware):
            for old, new in zip(weights, aware.get_weights(), strict=True):
                np.testing.assert_array_equal(new, old)
