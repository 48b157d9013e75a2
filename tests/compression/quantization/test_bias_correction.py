# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tf_keras as keras
from support.photographs import SHAPE, pixels

from learn2compress.compression.quantization.bias_correction import correct_biases
from learn2compress.compression.quantization.qat import calibrate, quantization_aware


def student() -> keras.Model:
    """Convolutions with channels of very different size, which 8 bits shift."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input(SHAPE)
    x = layers.ReLU(6.0)(layers.Conv2D(8, 3, 4, name="stem", bias_initializer="uniform")(image))
    y = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same", name="dw")(x))
    x = layers.Add()([x, layers.Conv2D(8, 1, name="project")(y)])
    outputs = layers.Dense(4, name="logits")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, outputs)
    for name in ("stem", "dw"):
        kernel, bias = model.get_layer(name).get_weights()
        factors = np.logspace(-2, 1, 8).astype(np.float32)
        model.get_layer(name).set_weights([kernel * (factors[:, None] if name == "dw" else factors), bias])
    return model


@pytest.fixture(scope="module")
def measured():
    """Float outputs, those of 8 bits before and after the correction, the number of layers, and the biases' change."""
    model, images = student(), pixels(24).astype(np.float32) / 127.5 - 1
    quantized = quantization_aware(model, keep_zeros=False)
    calibrate(quantized, model, [images])
    weights = model.get_weights()
    before = quantized(images, training=False).numpy()
    count = correct_biases(quantized, model, images)
    assert all(np.array_equal(one, other) for one, other in zip(weights, model.get_weights(), strict=True))
    return model(images).numpy(), before, quantized(images, training=False).numpy(), count


def test_correct_biases_takes_back_the_mean_shift_of_the_outputs(measured):
    exact, before, after, _ = measured
    shift = np.abs((before - exact).mean(0)).max()
    # What is left is the rounding of the outputs themselves.
    assert np.abs((after - exact).mean(0)).max() < shift / 3
    assert np.square(after - exact).mean() < np.square(before - exact).mean()


def test_correct_biases_corrects_each_layer_with_a_bias(measured):
    assert measured[3] == 4


def test_correct_biases_leaves_a_layer_alone_that_is_called_twice():
    image = keras.Input((4,))
    twice = keras.layers.Dense(4, name="twice")
    model = keras.Model(image, keras.layers.Dense(2)(twice(twice(image))))
    images = np.random.default_rng(0).uniform(-1, 1, (8, 4)).astype(np.float32)
    quantized = quantization_aware(model, keep_zeros=False)
    calibrate(quantized, model, [images])
    assert correct_biases(quantized, model, images) == 1
