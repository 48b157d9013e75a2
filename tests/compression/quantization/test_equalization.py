# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tf_keras as keras
from support.photographs import SHAPE, pixels

from learn2compress.compression.graphs.layer_walk import steps_of
from learn2compress.compression.quantization.equalization import equalize, scale_factors


def student(ceiling: float | None) -> keras.Model:
    """Inverted residual layers whose channels differ a hundredfold."""
    layers = keras.layers
    image = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, 4, name="stem")(image)
    y = layers.ReLU(ceiling)(layers.Conv2D(16, 1, name="expand")(x))
    y = layers.ReLU(ceiling)(layers.DepthwiseConv2D(3, padding="same", name="dw")(y))
    x = layers.Add()([x, layers.Conv2D(8, 1, name="project")(y)])
    x = layers.ReLU(ceiling)(layers.Conv2D(12, 1, name="last")(x))
    model = keras.Model(image, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(x)))
    for name in ("expand", "last"):
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([kernel * np.logspace(-2, 0, kernel.shape[-1]), bias])
    return model


def spread(model: keras.Model, images: np.ndarray, layer: str) -> float:
    """Ratio of the largest and the smallest of the channels' largest values."""
    (output,) = [step.node.outputs for step in steps_of(model) if step.layer.name == layer]
    largest = keras.Model(model.input, output)(images).numpy().max(axis=(0, 1, 2))
    return float(largest.max() / largest[largest > 1e-4].min())


def test_equalize_keeps_the_outputs_and_evens_out_the_channels():
    images = pixels(8).astype(np.float32) / 127.5 - 1
    for ceiling in (None, 6.0):
        keras.utils.set_random_seed(0)
        model = student(ceiling)
        before, uneven = model(images).numpy(), spread(model, images, "last")
        assert equalize(model, [images[:4], images[4:]]) == 3  # expand, dw and last; the others enter a sum
        np.testing.assert_allclose(model(images), before, rtol=1e-4, atol=1e-5)
        assert spread(model, images, "last") < uneven / 3


def test_scale_factors_balance_activations_and_weights():
    factors = scale_factors(np.array([4.0, 1.0, 0.0]), [np.array([1.0, 1.0, 1.0])], None)
    np.testing.assert_allclose(factors, [1, 2, 1])  # sqrt(1 / (1/4)); a dead channel stays


def test_scale_factors_do_not_lift_a_channel_to_the_ceiling_of_relu6():
    factors = scale_factors(np.array([6.0, 4.0, 0.01]), [np.ones(3)], 6.0)
    assert factors[0] == 1
    assert 4 * factors[1] < 6
    assert factors[2] == 8
