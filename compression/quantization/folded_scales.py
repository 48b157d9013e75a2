# SPDX-License-Identifier: Apache-2.0
"""Keeps the scales of kernels with a folded batch normalization within the limits of 8-bit arithmetic.

The converter folds y = f (k·x + b - mean) + beta, f = gamma / √(variance + ε), into the kernel, whose scale in channel
c, r / 127 for the range r, becomes |f_c| r / 127. If a channel is dead or was pruned, f is 0 or nearly 0. A scale of 0
is not valid, and the converter leaves the whole layer in float. With a scale near 0, the bias, a 32-bit integer times
this scale and the scale of the input, overflows: the output of the channel of a depthwise layer is then wrong.

Such channels are rewritten, with the same y for each x and the same r, for a factor t:

    k → t k,  b → t b,  mean → t mean,  gamma → gamma / t

The |f| r of a channel becomes at least 1/256 of the largest of its layer, and at least 1/4096 of its folded bias. Its
kernel is rounded more coarsely, but by far less than the rounding of the layer's output.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import quantize_aware_activation

_OF_LARGEST = 2.0**-8
_OF_BIAS = 2.0**-12
_FOLDED_INTO = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


@contextmanager
def sound_scales(student: keras.Model) -> Iterator[None]:
    """Rewrites such channels within the `with` block; afterwards all weights are restored.

    Args:
        student: Model from `quantization_aware`, or a student of it.
    """
    before: list[tuple[tf.Variable, np.ndarray]] = []
    try:
        for wrapper in student.layers:
            normalization = _folded(wrapper)
            if normalization is not None:
                for variable, value in _rewritten(wrapper, normalization):
                    before.append((variable, variable.numpy()))
                    variable.assign(value)
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def _folded(wrapper: keras.layers.Layer) -> keras.layers.Layer | None:
    """Finds the batch normalization that the converter folds into a layer's kernel, if there is one."""
    layer: Any = getattr(wrapper, "layer", None)
    if type(layer) not in _FOLDED_INTO or not getattr(wrapper, "_weight_vars", ()):
        return None
    # tfmot wraps the activation, and replaces a missing one.
    activation = getattr(layer.activation, "activation", layer.activation)
    if activation is not keras.activations.linear and not isinstance(
        activation, quantize_aware_activation.NoOpActivation
    ):
        return None
    readers = [node.outbound_layer for node in wrapper.outbound_nodes]
    if len(wrapper.inbound_nodes) != 1 or len(readers) != 1:
        return None
    after = getattr(readers[0], "layer", readers[0])
    return after if isinstance(after, keras.layers.BatchNormalization) and after.scale else None


def _rewritten(wrapper: keras.layers.Layer, normalization: keras.layers.Layer) -> list[tuple[tf.Variable, np.ndarray]]:
    """Computes the new values of the variables that change: [channels], kernels in their Keras shapes."""
    kernel, _, ranges = wrapper._weight_vars[0]
    gamma = normalization.gamma.numpy().astype(np.float64)
    deviation = np.sqrt(normalization.moving_variance.numpy() + normalization.epsilon)
    mean = normalization.moving_mean.numpy().astype(np.float64)
    bias = wrapper.layer.bias if wrapper.layer.use_bias else None
    # One range for all channels, one for each, or (depthwise kernel) one for each output of an input channel.
    width = np.maximum(np.abs(ranges["min_var"].numpy()), np.abs(ranges["max_var"].numpy())).reshape(-1)
    width = np.tile(width, len(gamma) // len(width))
    factor = gamma / deviation
    scale = np.abs(factor) * width
    shift = factor * ((0 if bias is None else bias.numpy()) - mean)
    shift += normalization.beta.numpy() if normalization.center else 0
    least = np.maximum(scale.max() * _OF_LARGEST, np.abs(shift) * _OF_BIAS)
    least = np.where(least > 0, least, width)  # if the layer outputs only zeros, any scale is valid
    small = (scale < least) & (width > 0)
    if not small.any():
        return []
    new = np.where(small, least / np.where(width > 0, width, 1), factor)
    times = np.where(small, factor / new, 1)
    shape = [1, 1, -1, kernel.shape[-1]] if isinstance(wrapper.layer, keras.layers.DepthwiseConv2D) else [-1]
    changed = [
        (kernel, kernel.numpy() * times.reshape(shape)),
        (normalization.moving_mean, mean * times),
        (normalization.gamma, np.where(small, new * deviation, gamma)),
    ]
    return changed if bias is None else [*changed, (bias, bias.numpy() * times)]
