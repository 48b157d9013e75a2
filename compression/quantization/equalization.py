# SPDX-License-Identifier: Apache-2.0
"""Cross-layer equalization: makes the channels between two layers equally suited to 8 bits (Nagel et al., 1906.04721).

A channel c of a convolution may be multiplied by f_c, and the weights behind it be divided by f_c, without a change of
the outputs, since a ReLU is positively homogeneous. 8-bit tensors have one scale for all channels, so with a_c, the
largest value of a channel relative to the largest of all, and r_c, its largest weight in the next layer relative to the
largest that has the same scale, the noise of both is balanced by

    f_c = sqrt(r_c / a_c)

A ReLU6 is homogeneous only below 6: f_c is 1 for channels that reach 6, and at most 6 divided by the largest value.
Weights of convolutions have a scale for each output channel, so the weights before a channel need not be considered.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.graphs.layer_walk import Step, steps_of
from learn2compress.compression.quantization.qat import in_parts

_PRODUCERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
_CONSUMERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
_LEAST, _MOST = 0.25, 8.0
_BELOW_SIX = 0.98  # of 6, the largest value that a channel may be scaled to


@dataclass(frozen=True)
class _Pair:
    """A layer, the layers that read its channels, and the largest value that is not clipped."""

    producer: keras.layers.Layer
    consumers: tuple[keras.layers.Layer, ...]
    tensor: object
    ceiling: float | None


def equalize(model: keras.Model, batches: Iterable) -> int:
    """Equalize the channels between layers with ReLU, ReLU6 or nothing between them; changes the weights.

    Args:
        model: Functional model without batch normalization.
        batches: Batches of normalized images [b, h, w, c] float32, on which the largest values are measured.

    Returns:
        The number of layers whose channels were scaled.
    """
    pairs = _pairs(steps_of(model))
    if not pairs:
        return 0
    between = keras.Model(model.input, [pair.tensor for pair in pairs])

    # The maxima are computed in the graph: all values of all layers at a time would take gigabytes.
    @partial(tf.function, autograph=False)
    def probe(images: tf.Tensor) -> list[tf.Tensor]:
        values = tf.nest.flatten(between(images))
        return [tf.reduce_max(value, list(range(value.shape.rank - 1))) for value in values]

    largest: list[np.ndarray] | None = None
    for images in (part for batch in batches for part in in_parts(batch)):
        found = [values.numpy() for values in probe(images)]
        largest = found if largest is None else [np.maximum(*both) for both in zip(largest, found, strict=True)]
    for pair, values in zip(pairs, largest or [], strict=True):
        _scale(pair, scale_factors(values, [_ranges(layer) for layer in pair.consumers], pair.ceiling))
    return len(pairs)


def scale_factors(largest: np.ndarray, ranges: Sequence[np.ndarray], ceiling: float | None) -> np.ndarray:
    """Compute f_c of each channel.

    Args:
        largest: Largest value of each channel, [channels].
        ranges: Relative largest weight of each channel in each of the layers behind, [channels].
        ceiling: 6 for a ReLU6, otherwise None.
    """
    alive = largest > 1e-6 * max(1e-12, float(largest.max()))
    relative = np.where(alive, largest, 1.0) / max(1e-12, float(largest.max()))
    weights = np.maximum(np.max(ranges, axis=0), 1e-6)
    factors = np.clip(np.sqrt(weights / relative), _LEAST, _MOST)
    if ceiling is not None:
        room = _BELOW_SIX * ceiling / np.where(alive, largest, 1.0)
        factors = np.where(room < 1, 1.0, np.minimum(factors, room))
    return np.where(alive, factors, 1.0)


def _pairs(steps: Sequence[Step]) -> list[_Pair]:
    readers: dict[str, list[Step]] = {}
    calls: dict[int, int] = {}
    for step in steps:
        calls[id(step.layer)] = calls.get(id(step.layer), 0) + 1
        for tensor in dict.fromkeys(step.inputs):
            readers.setdefault(tensor, []).append(step)
    found = []
    for step in steps:
        if type(step.layer) not in _PRODUCERS or not step.layer.use_bias or calls[id(step.layer)] > 1:
            continue
        if step.layer.activation.__name__ != "linear" or getattr(step.layer, "depth_multiplier", 1) > 1:
            continue
        end, ceiling = step, None
        behind = readers.get(step.outputs[0], [])
        if len(behind) == 1 and _is_relu(behind[0].layer):
            end = behind[0]
            ceiling = None if end.layer.max_value is None else float(end.layer.max_value)
        consumers = _consumers(end, readers)
        if consumers and all(calls[id(one)] == 1 for one in consumers):
            found.append(_Pair(step.layer, tuple(consumers), end.node.outputs, ceiling))
    return found


def _is_relu(layer: keras.layers.Layer) -> bool:
    return type(layer) is keras.layers.ReLU and not layer.negative_slope and not layer.threshold


def _consumers(end: Step, readers: dict[str, list[Step]]) -> list[keras.layers.Layer]:
    """List the layers that read the channels; empty if any other operation does."""
    found = []
    for step in readers.get(end.outputs[0], []):
        if type(step.layer) is keras.layers.GlobalAveragePooling2D:
            behind = readers.get(step.outputs[0], [])
            if len(behind) != 1 or type(behind[0].layer) is not keras.layers.Dense:
                return []
            found.append(behind[0].layer)
        elif type(step.layer) in _CONSUMERS and getattr(step.layer, "groups", 1) == 1:
            found.append(step.layer)
        else:
            return []
    return found


def _ranges(layer: keras.layers.Layer) -> np.ndarray:
    """Compute the largest weight of each input channel relative to the largest of the weights with the same scale."""
    kernel = np.abs(layer.get_weights()[0])
    if type(layer) is keras.layers.DepthwiseConv2D:
        return np.ones(kernel.shape[2])  # each channel has a scale of its own
    if type(layer) is keras.layers.Dense:
        return kernel.max(axis=1) / max(1e-12, float(kernel.max()))
    by_output = kernel.max(axis=(0, 1))  # [in, out]
    return (by_output / np.maximum(by_output.max(axis=0), 1e-12)).max(axis=1)


def _scale(pair: _Pair, factors: np.ndarray) -> None:
    kernel, bias = pair.producer.get_weights()
    shape = factors[:, None] if type(pair.producer) is keras.layers.DepthwiseConv2D else factors
    pair.producer.set_weights([kernel * shape, bias * factors])
    for layer in pair.consumers:
        weights = layer.get_weights()
        divisor = factors[:, None] if weights[0].ndim == 2 else factors[None, None, :, None]
        layer.set_weights([weights[0] / divisor, *weights[1:]])
