# SPDX-License-Identifier: Apache-2.0
"""Random small networks with all kinds of connections, and models in which chosen channels are zero."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from hypothesis import strategies as st

from learn2compress.compression.channels.groups import Channels

L = keras.layers
SHAPE = (6, 6, 3)


def _conv(draw: Callable, x: Any) -> Any:
    """A convolution with batch normalization before or behind it, or with a bias."""
    width, kernel, style = draw(st.integers(2, 6)), draw(st.sampled_from([1, 3])), draw(st.sampled_from("abc"))
    if style == "a":
        return L.Conv2D(width, kernel, padding="same", activation=draw(st.sampled_from(["relu", "swish"])))(x)
    if style == "b":
        x = L.Conv2D(width, kernel, padding="same", use_bias=False)(x)
        return L.ReLU(6.0)(L.BatchNormalization(scale=draw(st.booleans()))(x))
    return L.Conv2D(width, kernel, padding="same")(L.Activation("tanh")(L.BatchNormalization()(x)))


def _depthwise(draw: Callable, x: Any) -> Any:
    return L.DepthwiseConv2D(3, padding="same", depth_multiplier=draw(st.integers(1, 2)))(x)


def _separable(draw: Callable, x: Any) -> Any:
    return L.SeparableConv2D(draw(st.integers(2, 5)), 3, padding="same", depth_multiplier=draw(st.integers(1, 2)))(x)


def _grouped(draw: Callable, x: Any) -> Any:
    """Many narrow groups, or a few wide ones."""
    groups, inside = draw(st.sampled_from([(4, 2), (2, 4), (2, 3), (3, 1)]))
    x = L.Conv2D(groups * inside, 1, activation="relu")(x)
    return L.Conv2D(groups * draw(st.integers(1, 3)), 3, padding="same", groups=groups)(x)


def _residual(draw: Callable, x: Any) -> Any:
    width = x.shape[-1]
    y = L.Conv2D(width, 3, padding="same")(_conv(draw, x))
    merge = draw(st.sampled_from([L.Add, L.Average, L.Maximum, L.Subtract]))
    return merge()([x, y]) if draw(st.booleans()) else x + y


def _concatenation(draw: Callable, x: Any) -> Any:
    return L.Concatenate()([x, _conv(draw, x)] if draw(st.booleans()) else [_conv(draw, x), x, x])


def _excitation(draw: Callable, x: Any) -> Any:
    width, plain = x.shape[-1], draw(st.booleans())
    y = L.GlobalAveragePooling2D(keepdims=not plain)(x)
    if plain:
        y = L.Dense(width, "sigmoid")(L.Dense(3, "relu")(y))
        return L.Multiply()([x, L.Reshape((1, 1, width))(y)])
    return x * L.Conv2D(width, 1, activation="hard_sigmoid")(L.Conv2D(4, 1, activation="relu")(y))


def _split(draw: Callable, x: Any) -> Any:
    """Parts of the channels, in another order."""
    if x.shape[-1] < 2:
        return x
    half = draw(st.integers(1, x.shape[-1] - 1))
    first, second = (
        (x[..., :half], x[:, :, :, half:]) if draw(st.booleans()) else tf.split(x, [half, x.shape[-1] - half], axis=-1)
    )
    return L.Concatenate()([second, _conv(draw, first)])


def _plain(draw: Callable, x: Any) -> Any:
    layer = draw(st.sampled_from(["pool", "mean", "pad", "crop", "prelu", "up", "transposed", "permute", "relu"]))
    makers: dict[str, Callable[[], Any]] = {
        "pool": lambda: L.MaxPooling2D(2, padding="same"),
        "mean": lambda: L.AveragePooling2D(2, padding="same"),
        "pad": lambda: L.ZeroPadding2D(1),
        "crop": lambda: L.Cropping2D(((0, 1), (0, 0))),
        "prelu": lambda: L.PReLU(shared_axes=draw(st.sampled_from([None, [1, 2]]))),
        "up": lambda: L.UpSampling2D(2),
        "transposed": lambda: L.Conv2DTranspose(4, 3, padding="same"),
        "permute": lambda: L.Permute((2, 1, 3)),
        "relu": lambda: tf.nn.relu,
    }
    if layer == "crop" and x.shape[1] < 2:
        return x
    return makers[layer]()(x)


def _unknown(_: Callable, x: Any) -> Any:
    """Layers whose channels are not followed."""
    return L.LayerNormalization()(x)


_BLOCKS = (
    _conv, _conv, _depthwise, _separable, _grouped, _residual, _residual, _concatenation, _excitation, _split, _plain,
    _unknown,
)  # fmt: skip


def _head(draw: Callable, x: Any, name: str) -> Any:
    end = draw(st.sampled_from(["flatten", "mean", "reshape"]))
    if end == "flatten":
        x = L.Flatten()(x)
    elif end == "mean":
        x = L.GlobalAveragePooling2D()(x)
    else:
        x = L.Reshape((np.prod(x.shape[1:]),))(x)
    return L.Dense(3, name=name)(L.Dense(5, "relu")(x))


@st.composite
def networks(draw: Callable) -> keras.Model:
    """Draw a network of a few blocks with one or two outputs and random weights."""
    image = keras.Input(SHAPE, name="image")
    x, outputs = _conv(draw, image), []
    for number in range(draw(st.integers(1, 2))):
        for _ in range(draw(st.integers(1, 3))):
            x = draw(st.sampled_from(_BLOCKS))(draw, x)
        outputs.append(_head(draw, x, f"head{number}"))
    model = keras.Model(image, outputs)
    randomize(model, draw(st.integers(0, 2**16)))
    return model


def randomize(model: keras.Model, seed: int) -> None:
    """Set random weights of moderate size; variances are positive."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        weights = [rng.normal(0, 1, w.shape) / np.sqrt(max(1, np.prod(w.shape[:-1]))) for w in layer.get_weights()]
        if isinstance(layer, keras.layers.BatchNormalization):
            weights[-1] = rng.uniform(0.5, 2, weights[-1].shape)
        layer.set_weights(weights)


def silence(channels: Channels, kept: Mapping[str, np.ndarray]) -> None:
    """Set weights such that all channels that are not kept are zero where a layer computes or normalizes them.

    Kernels and biases of these channels become zero, and so do scale, offset and mean of batch normalization.
    """
    masks = channels.masks(kept)
    layers = {layer.name: layer for layer in channels.model.layers}
    for axis in channels.axes:
        layer = layers[axis.layer]
        gone = np.setdiff1d(np.arange(len(axis.placement.group)), axis.placement.kept(masks))
        weights = layer.get_weights()
        shape = weights[axis.weight].shape
        norm = isinstance(layer, keras.layers.BatchNormalization)
        if axis.computes or (len(shape) == 1 and not (norm and axis.weight == len(weights) - 1)):
            index = [slice(None)] * len(shape)
            index[axis.axis] = gone
            weights[axis.weight][tuple(index)] = 0
            layer.set_weights(weights)
