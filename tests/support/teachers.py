# SPDX-License-Identifier: Apache-2.0
"""Makes small teachers in each supported format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

CLASSES = 5
# conv 3x3 3->4 on 8x8, depthwise 3x3 on 4 channels, dense 4->5.
MACS = 64 * 27 * 4 + 64 * 9 * 4 + 4 * 5
PARAMETERS = (27 * 4 + 4) + 4 * 4 + (9 * 4 + 4) + (4 * 5 + 5)


def build(library: Any, activation: str | None, **input_options: Any) -> Any:
    """Make a small classifier with the layers that formats store differently, and with no weights of zero."""
    layers = library.layers
    image = library.Input((8, 8, 3), **input_options)
    x = layers.Conv2D(4, 3, padding="same", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = library.Model(image, layers.Dense(CLASSES, activation=activation, name="scores")(x))
    rng = np.random.default_rng(1)
    for layer in model.layers:
        layer.set_weights([rng.uniform(0.2, 1.5, w.shape) * rng.choice((-1, 1), w.shape) for w in layer.get_weights()])
    norm = model.get_layer("norm")
    norm.set_weights([np.abs(w) for w in norm.get_weights()])
    model.get_layer("scores").set_weights([rng.normal(size=(4, CLASSES)) / 2, rng.normal(size=CLASSES)])
    return model


class PlainModule(tf.Module):
    """A classifier of TensorFlow operations without Keras."""

    def __init__(self, softmax: bool) -> None:
        super().__init__()
        rng = np.random.default_rng(2)
        self.softmax = softmax
        self.kernel = tf.Variable(rng.normal(size=(3, 3, 3, 4)), dtype=tf.float32)
        self.depthwise = tf.Variable(rng.normal(size=(3, 3, 4, 1)), dtype=tf.float32)
        self.matrix = tf.Variable(rng.normal(size=(4, CLASSES)), dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="pixels")])
    def __call__(self, pixels: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(tf.nn.conv2d(pixels, self.kernel, 1, "SAME"))
        x = tf.nn.depthwise_conv2d(x, self.depthwise, [1, 1, 1, 1], "SAME")
        scores = tf.reduce_mean(x, [1, 2]) @ self.matrix
        return tf.nn.softmax(scores) if self.softmax else scores


def save(kind: str, activation: str | None, folder: Path) -> tuple[Path, Any]:
    """Save a new model in one of the supported formats; return its path and the model."""
    if kind == "tf.Module":
        model = PlainModule(activation == "softmax")
        tf.saved_model.save(model, str(folder / "t"), signatures=model.__call__)
        return folder / "t", model
    library, way = kind.split(" ")
    model = build(keras if library == "keras3" else tf_keras, activation)
    path = folder / f"t{way}" if way.startswith(".") else folder / "t"
    if way == "export":
        model.export(str(path), verbose=False)
    elif way == "tf.saved_model.save":
        tf.saved_model.save(model, str(path))
    else:
        model.save(str(path))
    return path, model


def saved_function(
    folder: Path, function: Callable[..., Any], *specs: tf.TensorSpec, name: str = "serving_default"
) -> Path:
    module = tf.Module()
    module.owner = function if isinstance(function, tf.Module) else None
    module.answer = tf.function(function, input_signature=specs, autograph=False)
    tf.saved_model.save(module, str(folder / "f"), signatures={name: module.answer})
    return folder / "f"


def flat_scores(x: tf.Tensor) -> tf.Tensor:
    """Compute three scores that depend on all pixels."""
    x = tf.cast(x, tf.float32)
    x = tf.reshape(x, [tf.shape(x)[0], -1])
    return tf.stack([tf.reduce_mean(x, 1), tf.reduce_max(x, 1), -tf.reduce_min(x, 1)], axis=1)
