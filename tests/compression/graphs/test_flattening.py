# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tf_keras as keras

from learn2compress.compression.graphs.flattening import flatten_models
from learn2compress.compression.quantization.qat import calibrate, quantization_aware


def build(calls: int) -> keras.Model:
    """A student with separable convolutions, one of them called several times."""
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    options = {"strides": 2, "padding": "same", "depth_multiplier": 2, "activation": "relu"}
    x = layers.SeparableConv2D(6, 3, **options, name="sep")(image)
    again = layers.SeparableConv2D(6, 3, padding="same", use_bias=False, name="again")
    for _ in range(calls):
        x = again(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def test_flatten_models_divides_separable_convolutions_without_changing_a_number():
    model = build(2)
    flat = flatten_models({"only": model}, (8, 8, 3), "family")
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(flat(images), model(images), rtol=1e-5, atol=1e-6)
    assert flat.count_params() == model.count_params()
    kinds = {layer.name: type(layer).__name__ for layer in flat.layers}
    assert (kinds["sep_depthwise"], kinds["sep"]) == ("DepthwiseConv2D", "Conv2D")
    assert "SeparableConv2D" not in kinds.values()


def test_separable_convolutions_are_trained_for_8_bits():
    model = build(1)
    flat = flatten_models({"only": model}, (8, 8, 3), "family")
    images = np.random.default_rng(0).uniform(-1, 1, (8, 8, 8, 3)).astype(np.float32)
    quantized = quantization_aware(flat, keep_zeros=False)
    calibrate(quantized, flat, [images])
    assert np.abs(quantized(images) - flat(images)).max() < 0.1
