# SPDX-License-Identifier: Apache-2.0
"""How the channels of a layer's inputs and outputs depend on each other, one function for each kind of layer.

A rule takes a step of the model, the labels of its inputs' channels, and the tracking in which it records couplings
and axes of weights; it returns the labels of the output's channels, or raises `NotFollowed`. Only layers of exactly the
listed classes have a rule, since a subclass may compute something else.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tf_keras as keras
from tf_keras.src.applications.inception_resnet_v2 import CustomScaleLayer  # a sum with a scaled second term

from learn2compress.compression.channels.tracking import NotFollowed, Reason, Tracking
from learn2compress.compression.graphs.layer_walk import Step

Rule = Callable[[Step, list[np.ndarray], Tracking], np.ndarray]

_LAYERS = keras.layers
# Activations that are computed element by element.
_ELEMENTWISE = frozenset({
    "linear", "relu", "relu6", "elu", "selu", "gelu", "swish", "silu", "sigmoid", "hard_sigmoid", "hard_swish", "tanh",
    "softplus", "softsign", "exponential", "mish", "leaky_relu",
})  # fmt: skip


def reason(step: Step, why: str) -> Reason:
    """Makes a reason that names the layer of a step."""
    return Reason(step.layer.name, type(step.layer).__name__, why)


def shapes_of(step: Step) -> list[tuple[int | None, ...]]:
    """Lists the shapes of a step's inputs, with the batch."""
    return [tuple(tensor.shape) for tensor in step.node.keras_inputs]


def acts_on_each_channel(activation: Any) -> bool:
    """Tells whether an activation function of Keras is known to be computed element by element."""
    return keras.activations.serialize(activation) in _ELEMENTWISE


def merge(parts: Sequence[np.ndarray], step: Step, tracking: Tracking) -> np.ndarray:
    """Couples the channels of tensors that are combined element by element.

    A tensor with one channel, beside others with several, is combined with all of them: its channel stays.
    """
    size = max(len(labels) for labels in parts)
    wide = [labels for labels in parts if len(labels) == size]
    for labels in parts:
        if len(labels) == size:
            tracking.couple(wide[0], labels)
        elif len(labels) == 1:
            tracking.keep(labels, reason(step, "combines its single channel with several"))
        else:
            raise NotFollowed("combines tensors of different widths")
    return wide[0]


def _channels_last(layer: keras.layers.Layer) -> None:
    if getattr(layer, "data_format", None) == "channels_first":
        raise NotFollowed("has its channels first")


def _record(step: Step, tracking: Tracking, outputs: np.ndarray, bias: int | None) -> np.ndarray:
    """Records a bias, and keeps the output's channels if the layer's own activation mixes them."""
    if bias is not None:
        tracking.axis(step.layer.name, bias, 0, outputs)
    if not acts_on_each_channel(step.layer.activation):
        tracking.keep(outputs, reason(step, "has an activation that is not known to act on each channel alone"))
    return outputs


def _convolution(step: Step, inputs: list[np.ndarray], tracking: Tracking) -> np.ndarray:
    layer, (labels,) = step.layer, inputs
    _channels_last(layer)
    outputs = tracking.fresh(layer.filters)
    axes = layer.kernel.shape.rank - 2
    entering = labels if layer.groups == 1 else _couple_groups(labels, outputs, layer.groups, tracking)
    if entering is not None:
        tracking.axis(layer.name, 0, axes, entering)
    tracking.axis(layer.name, 0, axes + 1, outputs, computes=True)
    return _record(step, tracking, outputs, 1 if layer.use_bias else None)


def _couple_groups(inputs: np.ndarray, outputs: np.ndarray, groups: int, tracking: Tracking) -> np.ndarray | None:
    """Couples the channels of a grouped convolution, all of whose groups must have the same widths.

    Many narrow groups are removed as a whole; of a few wide ones, the channels at the same place in each group.

    Returns:
        Labels along the input axis of the kernel, or None if its size does not change.
    """
    entering, leaving = inputs.reshape(groups, -1), outputs.reshape(groups, -1)
    if groups >= entering.shape[1]:
        first = entering[:, 0]
        tracking.couple(np.repeat(first, entering.shape[1]), inputs)
        tracking.couple(np.repeat(first, leaving.shape[1]), outputs)
        return None
    tracking.couple(np.tile(entering[0], groups), inputs)
    tracking.couple(np.tile(leaving[0], groups), outputs)
    return entering[0]


def _transposed(step: Step, inputs: list[np.ndarray], tracking: Tracking) -> np.ndarray:
    layer, (labels,) = step.layer, inputs
    _channels_last(layer)
    outputs = tracking.fresh(layer.filters)
    tracking.axis(layer.name, 0, 2, outputs, computes=True)
    tracking.axis(layer.name, 0, 3, labels)
    return _record(step, tracking, outputs, 1 if layer.use_bias else None)


def _depthwise(step: Step, inputs: list[np.ndarray], tracking: Tracking) -> np.ndarray:
    layer, (labels,) = step.layer, inputs
    _channels_last(layer)
    outputs = np.repeat(labels, layer.depth_multiplier)
    tracking.axis(layer.name, 0, 2, labels)
    return _record(step, tracking, outputs, 1 if layer.use_bias else None)


def _separable(step: Step, inputs: list[np.ndarray], tracking: Tracking) -> np.ndarray:
    layer, (labels,) = step.layer, inputs
    _channels_last(layer)
    outputs = tracking.fresh(layer.filters)
    tracking.axis(layer.name, 0, 2, labels)
    tracking.axis(layer.name, 1, 2, np.repeat(labels, layer.depth_multiplier))
    tracking.axis(layer.name, 1, 3, outputs, computes=True)
    return _record(step, tracking, outputs, 2 if layer.use_bias else None)


def _dense(step: Step, inputs: list[np.ndarray], tracking: Tracking) -> np.ndarray:
    layer, (labels,) = step.layer, inputs
    outputs = tracking.fresh(layer.units)
    tracking.axis(layer.name, 0, 0, labels)
    tracking.axis(layer.name, 0, 1, outputs, computes=True)
    return _record(step, tracking, outputs, 1 if layer.use_bias else None)


def _batch_normalization(step: Step, inputs: list[np.ndarray], tracking: Tracking) -> np.ndarray:
    layer, (labels,) = step.layer, inputs
    if list(layer.axis) != [len(shapes_of(step)[0]) - 1]:
        raise NotFollowed("normalizes over another axis than the last")
    if any(tuple(weight.shape) != labels.shape for weight in layer.weights):
        raise NotFollowed("has weights of other shapes than one value a channel")
    for index in range(len(layer.weights)):
        tracking.axis(layer.name, index, 0, labels)
    return labels


def _normalizes_over_channels(*_: Any) -> np.ndarray:
    raise NotFollowed("normalizes over the channels, whose statistics would change")


def _prelu(step: Step, inputs: list[np.ndarray], tracking: Tracking) -> np.ndarray:
    layer, (labels,) = step.layer, inputs
    shape = layer.alpha.shape
    if shape[-1] == len(labels):
        tracking.axis(layer.name, 0, shape.rank - 1, labels)
    elif shape[-1] != 1:
        raise NotFollowed("has slopes of another number than the channels")
    return labels


def _pass(step: Step, inputs: list[np.ndarray], _: Tracking) -> np.ndarray:
    (labels,) = inputs
    _channels_last(step.layer)
    return labels


def _activation(step: Step, inputs: list[np.ndarray], _: Tracking) -> np.ndarray:
    if not acts_on_each_channel(step.layer.activation):
        raise NotFollowed("has an activation that is not known to act on each channel alone")
    return inputs[0]


def _rescaling(step: Step, inputs: list[np.ndarray], tracking: Tracking) -> np.ndarray:
    if np.size(step.layer.scale) > 1 or np.size(step.layer.offset) > 1:
        tracking.keep(inputs[0], reason(step, "has a factor or offset for each channel"))
    return inputs[0]


def _fixed_normalization(step: Step, inputs: list[np.ndarray], tracking: Tracking) -> np.ndarray:
    tracking.keep(inputs[0], reason(step, "has a mean and variance for each channel"))
    return inputs[0]


def _merge(step: Step, inputs: list[np.ndarray], tracking: Tracking) -> np.ndarray:
    return merge(inputs, step, tracking)


def _concatenate(step: Step, inputs: list[np.ndarray], tracking: Tracking) -> np.ndarray:
    rank = len(shapes_of(step)[0])
    if step.layer.axis in (-1, rank - 1):
        return np.concatenate(inputs)
    if step.layer.axis in (0, -rank):
        raise NotFollowed("joins the images of a batch")
    return merge(inputs, step, tracking)


def _flatten(step: Step, inputs: list[np.ndarray], _: Tracking) -> np.ndarray:
    (labels,), (shape,) = inputs, shapes_of(step)
    _channels_last(step.layer)
    inside = [side for side in shape[1:-1] if side is not None]
    if len(inside) != len(shape[1:-1]):
        raise NotFollowed("flattens images of any size")
    return np.tile(labels, math.prod(inside))


def _reshape(step: Step, inputs: list[np.ndarray], _: Tracking) -> np.ndarray:
    (labels,), (before,) = inputs, shapes_of(step)
    after = tuple(step.node.outputs.shape)
    if after[-1] == before[-1]:
        return labels
    inside = [side for side in before[1:-1] if side is not None]
    if len(after) == 2 and len(inside) == len(before[1:-1]):
        return np.tile(labels, math.prod(inside))
    raise NotFollowed("divides the channels between axes")


def _permute(step: Step, inputs: list[np.ndarray], _: Tracking) -> np.ndarray:
    if step.layer.dims[-1] != len(step.layer.dims):
        raise NotFollowed("moves the channels to another axis")
    return inputs[0]


_PASSING = (
    _LAYERS.ReLU, _LAYERS.LeakyReLU, _LAYERS.ELU, _LAYERS.ThresholdedReLU, _LAYERS.Dropout, _LAYERS.SpatialDropout1D,
    _LAYERS.SpatialDropout2D, _LAYERS.GaussianNoise, _LAYERS.GaussianDropout, _LAYERS.AlphaDropout,
    _LAYERS.ActivityRegularization, _LAYERS.MaxPooling1D, _LAYERS.MaxPooling2D, _LAYERS.AveragePooling1D,
    _LAYERS.AveragePooling2D, _LAYERS.GlobalAveragePooling1D, _LAYERS.GlobalAveragePooling2D,
    _LAYERS.GlobalMaxPooling1D, _LAYERS.GlobalMaxPooling2D, _LAYERS.ZeroPadding1D, _LAYERS.ZeroPadding2D,
    _LAYERS.Cropping1D, _LAYERS.Cropping2D, _LAYERS.UpSampling1D, _LAYERS.UpSampling2D, _LAYERS.Resizing,
)  # fmt: skip
_MERGING = (
    _LAYERS.Add, _LAYERS.Subtract, _LAYERS.Average, _LAYERS.Maximum, _LAYERS.Minimum, _LAYERS.Multiply,
    CustomScaleLayer,
)  # fmt: skip

RULES: dict[type, Rule] = {
    **dict.fromkeys(_PASSING, _pass),
    **dict.fromkeys(_MERGING, _merge),
    **dict.fromkeys((_LAYERS.Conv1D, _LAYERS.Conv2D), _convolution),
    _LAYERS.Conv2DTranspose: _transposed,
    _LAYERS.DepthwiseConv2D: _depthwise,
    _LAYERS.SeparableConv2D: _separable,
    _LAYERS.Dense: _dense,
    _LAYERS.BatchNormalization: _batch_normalization,
    **dict.fromkeys(
        (_LAYERS.LayerNormalization, _LAYERS.GroupNormalization, _LAYERS.UnitNormalization), _normalizes_over_channels
    ),
    _LAYERS.Normalization: _fixed_normalization,
    _LAYERS.PReLU: _prelu,
    _LAYERS.Activation: _activation,
    _LAYERS.Rescaling: _rescaling,
    _LAYERS.Concatenate: _concatenate,
    _LAYERS.Flatten: _flatten,
    _LAYERS.Reshape: _reshape,
    _LAYERS.Permute: _permute,
}
