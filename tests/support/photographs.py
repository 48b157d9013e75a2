# SPDX-License-Identifier: Apache-2.0
"""Small colour images of classes that differ in shape and colour, and convolutional teachers of Keras 3 for them."""

from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("rings", "stripes", "checks", "dots")
SIDE = 48
SHAPE = (SIDE, SIDE, 3)


def pixels(count: int = 4, side: int = SIDE) -> np.ndarray:
    """Draws random pixels, [count, side, side, 3] uint8."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def draw_images(count: int, seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Draws images, [count, side, side, 3] uint8, and their labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    images, labels = [], np.arange(count) % len(CLASSES)
    for label in labels:
        u, v, phase, scale = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0, 6), rng.uniform(3, 5)
        pattern = {
            0: np.sin(6 * scale * np.hypot(x - u, y - v) + phase),
            1: np.sin(6 * scale * (x * u + y * v) + phase),
            2: np.sign(np.sin(5 * scale * x + phase) * np.sin(5 * scale * y)),
            3: np.cos(5 * scale * (x - u)) + np.cos(5 * scale * (y - v)) - 1,
        }[int(label)]
        colour = rng.uniform(0.3, 1, 3)
        image = 128 + 80 * pattern[..., None] * colour + rng.normal(0, 15, (side, side, 3))
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return np.stack(images), labels.astype(np.int64)


def inverted_residuals(library: Any, side: int = SIDE, classes: int = len(CLASSES)) -> Any:
    """Builds a network of inverted residual blocks with scaling inside, a nested model, dropout and ReLU6."""
    layers = library.layers
    image = library.Input((side, side, 3), name="pixels")
    x = layers.Rescaling(1 / 127.5, -1.0)(image)
    x = _convolution(layers, x, 8, 3, 2)
    x = _inverted(layers, x, 8, 1)
    x = _inverted(layers, x, 16, 2)
    nested_input = library.Input(x.shape[1:])
    nested = library.Model(nested_input, _inverted(layers, nested_input, 16, 1), name="nested")
    x = nested(x)
    x = layers.Dropout(0.1)(x)
    x = _inverted(layers, x, 24, 2)
    x = _inverted(layers, x, 24, 1)
    x = _convolution(layers, x, 64, 1, 1)
    x = layers.GlobalAveragePooling2D()(x)
    return library.Model(image, layers.Dense(classes)(x), name="inverted")


def residuals(library: Any, side: int = SIDE, classes: int = len(CLASSES)) -> Any:
    """Builds a small residual network of plain convolutions that takes pixels in [0, 1]."""
    layers = library.layers
    image = library.Input((side, side, 3), name="pixels")
    x = _convolution(layers, image, 8, 3, 2)
    for filters in (12, 16):
        short = layers.BatchNormalization()(layers.Conv2D(filters, 1, 2, use_bias=False)(x))
        y = _convolution(layers, x, filters, 3, 2)
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", use_bias=False)(y))
        x = layers.ReLU()(layers.Add()([y, short]))
    x = layers.GlobalAveragePooling2D()(x)
    return library.Model(image, layers.Dense(classes, activation="softmax")(x), name="residual")


def shake(model: Any, seed: int = 0) -> Any:
    """Gives a model random weights and batch statistics, so that no layer computes the identity; returns it."""
    rng = np.random.default_rng(seed)
    weights = []
    for weight in model.get_weights():
        if weight.ndim > 1:
            weights.append(weight)
        else:
            weights.append(rng.uniform(0.5, 1.5, weight.shape).astype(weight.dtype))
    model.set_weights(weights)
    return model


def write_teacher(path: Path, seed: int = 0, steps: int = 60) -> float:
    """Trains a teacher of Keras 3 on drawn images, writes it, and returns its accuracy on other images."""
    import keras

    keras.utils.set_random_seed(seed)
    model = inverted_residuals(keras)
    images, labels = draw_images(32 * 8, seed + 1)
    model.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, labels, batch_size=32, epochs=max(1, steps // 8), verbose=0)
    model.save(path)
    others, truth = draw_images(128, seed + 2)
    return float(np.mean(model.predict(others, verbose=0).argmax(-1) == truth))


def _convolution(layers: Any, x: Any, filters: int, kernel: int, strides: int) -> Any:
    x = layers.Conv2D(filters, kernel, strides, "same", use_bias=False)(x)
    return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.8)(x))


def _inverted(layers: Any, x: Any, filters: int, strides: int) -> Any:
    y = _convolution(layers, x, 4 * x.shape[-1], 1, 1)
    y = layers.DepthwiseConv2D(3, strides, "same", use_bias=False)(y)
    y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.8)(y))
    y = layers.BatchNormalization(momentum=0.8)(layers.Conv2D(filters, 1, use_bias=False)(y))
    return layers.Add()([x, y]) if strides == 1 and filters == x.shape[-1] else y
