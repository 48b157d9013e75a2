# SPDX-License-Identifier: Apache-2.0
"""Predicts bytes, MACs and parameters of each student of a model, for any widths of its channel groups, by arithmetic.

The kernel of a layer has as many values as the product of its input and output channels, times a constant; so have its
MACs. The bytes are those of the full-int8 .tflite file: a byte for each value of a kernel, biases and scales for each
channel, and a constant for each operation, fitted to files in their final form (see family/spec.py, whose figures for
the built-in family are the same). Batch normalization directly behind a convolution is folded into it; elsewhere it
becomes two operations.

Operations that are not understood count with their weights and the bytes of an operation, and with no MACs.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import tf_keras as keras

from learn2compress.compression.channels.groups import Channels, containing_outputs
from learn2compress.compression.channels.operation_rules import SLICE, SPLIT, call_of
from learn2compress.compression.channels.placement import Placement
from learn2compress.compression.graphs.layer_walk import Step

FILE_BYTES = 2000  # with the metadata, one mean over pixels, one dense layer and one softmax
CONVOLUTION_BYTES = 246  # the operator, its tensors and the padding of its constants
OPERATION_BYTES = 57  # an operator without constants, and its output
DENSE_BYTES = 220
CONSTANTS_BYTES = 80  # an operator with constants, such as a slice, most of which are stored once
UNFOLDED_BYTES = 340  # batch normalization as a product and a sum
LAYER_NORMALIZATION_BYTES = 1300  # some twenty operators
CHANNEL_BYTES = 12  # int32 bias, its scale and the weights' scale
UNIT_BYTES = 4  # the bias only: a dense layer has a single scale
WIDTH_BYTES = 8  # zero points per channel, stored once for all convolutions with the same number of channels

KINDS = ("bytes", "macs", "channels", "parameters")
"""Rows of the figures."""

_L = keras.layers
_CONVOLUTIONS = (_L.Conv1D, _L.Conv2D, _L.Conv2DTranspose, _L.DepthwiseConv2D, _L.SeparableConv2D)
_FREE = (
    _L.InputLayer, _L.Dropout, _L.SpatialDropout1D, _L.SpatialDropout2D, _L.GaussianNoise, _L.GaussianDropout,
    _L.AlphaDropout, _L.ActivityRegularization, _L.ReLU, _L.Softmax,
)  # fmt: skip
_WITH_CONSTANTS = (_L.ZeroPadding1D, _L.ZeroPadding2D, _L.Cropping1D, _L.Cropping2D, _L.UpSampling2D, _L.Rescaling)


@dataclass(frozen=True)
class _Operation:
    """An operation of the file, with counts [1 + groups] of channels: the constant part, and those of each unit.

    Attributes:
        entering: Channels that each output channel depends on.
        leaving: Output channels.
        weights: Values of the kernel for each pair of channels.
        macs: MACs for each pair of channels.
        channel_bytes: Bytes for each output channel, besides the kernel.
        channel_parameters: Parameters for each output channel, besides the kernel.
        fixed: Further bytes.
        has_zero_points: Whether it shares zero points with the convolutions of the same width.
    """

    entering: np.ndarray
    leaving: np.ndarray
    weights: int = 0
    macs: int = 0
    channel_bytes: int = 0
    channel_parameters: int = 0
    fixed: int = 0
    has_zero_points: bool = False


class Costs:
    """Predicted costs of the students of a model.

    Attributes:
        channels: Channels of the model.
    """

    def __init__(self, channels: Channels, label_bytes: int = 0) -> None:
        """Reads the operations of a model.

        Args:
            channels: Channels of the model.
            label_bytes: Bytes of the class names, which each student's file contains.
        """
        self.channels, self._label_bytes = channels, label_bytes
        operations, students = [], []
        for step, outputs in zip(channels.steps, containing_outputs(channels.model, channels.steps), strict=True):
            for operation in _operations(channels, step):
                operations.append(operation)
                students.append([n in outputs for n in range(len(channels.names))])
        self.students = np.array(students, bool).reshape(-1, len(channels.names))
        self.entering = np.array([o.entering for o in operations]).reshape(len(operations), -1)
        self.leaving = np.array([o.leaving for o in operations]).reshape(len(operations), -1)
        self.factors = np.array(
            [[o.weights, o.macs, o.channel_bytes, o.channel_parameters, o.fixed] for o in operations]
        ).T
        self.has_zero_points = np.array([o.has_zero_points for o in operations], bool)
        # One dense layer and one mean of each student are part of FILE_BYTES.
        self.constant = np.full(len(channels.names), FILE_BYTES + label_bytes - DENSE_BYTES - OPERATION_BYTES)
        varies = (self.entering + self.leaving)[:, 1:] > 0
        self.affected = [np.flatnonzero(varies[:, group]) for group in range(len(channels.groups))]
        self.contains = np.array(
            [[name in group.students for name in channels.names] for group in channels.groups], bool
        ).reshape(-1, len(channels.names))

    def at(self, widths: Sequence[int] | None = None) -> "Widths":
        """Computes the costs for some widths.

        Args:
            widths: Number of units of each group; default: all of them.
        """
        return Widths(self, np.array(widths or [group.width for group in self.channels.groups], int))

    def values(self, rows: np.ndarray | slice, entering: np.ndarray, leaving: np.ndarray) -> np.ndarray:
        """Computes bytes, MACs and parameters [3, rows] of operations with some numbers of channels."""
        weights, macs, channel_bytes, channel_parameters, fixed = self.factors[:, rows]
        pairs = entering * leaving
        return np.stack(
            [
                weights * pairs + channel_bytes * leaving + fixed,
                macs * pairs,
                weights * pairs + channel_parameters * leaving,
            ]
        )


@dataclass
class Widths:
    """The costs for some widths, which can be changed one at a time.

    Attributes:
        costs: Operations of the model.
        widths: [groups] int.
        figures: Bytes, MACs, channels and parameters [4, students] int, see `KINDS`.
    """

    costs: Costs
    widths: np.ndarray
    figures: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        costs, vector = self.costs, np.append(1, self.widths)
        self._entering, self._leaving = costs.entering @ vector, costs.leaving @ vector
        self._values = costs.values(slice(None), self._entering, self._leaving)
        self._zero_points = [Counter(self._leaving[costs.has_zero_points & own].tolist()) for own in costs.students.T]
        size, macs, parameters = self._values @ costs.students
        size = size + costs.constant + [WIDTH_BYTES * sum(counted) for counted in self._zero_points]
        self.figures = np.stack([size, macs, self.widths @ costs.contains, parameters])

    def changed(self, group: int, width: int) -> np.ndarray:
        """Computes the figures if one group had another width."""
        figures, *_ = self._changed(group, width)
        return figures

    def change(self, group: int, width: int) -> None:
        """Changes the width of a group."""
        figures, rows, entering, leaving, values = self._changed(group, width)
        for student, counted in enumerate(self._zero_points):
            for row, new in zip(rows.tolist(), leaving.tolist(), strict=True):
                if self.costs.has_zero_points[row] and self.costs.students[row, student]:
                    counted[int(self._leaving[row])] -= 1
                    counted[new] += 1
        self.figures, self.widths[group] = figures, width
        self._entering[rows], self._leaving[rows], self._values[:, rows] = entering, leaving, values

    def _changed(self, group: int, width: int) -> tuple[np.ndarray, ...]:
        costs, rows = self.costs, self.costs.affected[group]
        difference = width - self.widths[group]
        entering = self._entering[rows] + costs.entering[rows, 1 + group] * difference
        leaving = self._leaving[rows] + costs.leaving[rows, 1 + group] * difference
        values = costs.values(rows, entering, leaving)
        size, macs, parameters = (values - self._values[:, rows]) @ costs.students[rows]
        zero_points = [self._more_zero_points(student, rows, leaving) for student in range(len(size))]
        change = np.stack(
            [size + WIDTH_BYTES * np.array(zero_points), macs, difference * costs.contains[group], parameters]
        )
        return self.figures + change, rows, entering, leaving, values

    def _more_zero_points(self, student: int, rows: np.ndarray, leaving: np.ndarray) -> int:
        """Computes the change of the sum of all different widths of a student's convolutions."""
        costs, change = self.costs, Counter[int]()
        own = costs.has_zero_points[rows] & costs.students[rows, student]
        for old, new in zip(self._leaving[rows][own].tolist(), leaving[own].tolist(), strict=True):
            change[old] -= 1
            change[new] += 1
        counted = self._zero_points[student]
        return sum(
            width * ((counted[width] + more > 0) - (counted[width] > 0)) for width, more in change.items() if more
        )


def _operations(channels: Channels, step: Step) -> Iterator[_Operation]:
    """Lists the operations that a step becomes in the file."""
    layer, kind = step.layer, type(step.layer)
    groups = len(channels.groups)

    def counts(placement: Placement) -> np.ndarray:
        constant, free = placement.counts(groups)
        return np.append(constant, free)

    def constant(number: int) -> np.ndarray:
        return np.append(number, np.zeros(groups, int))

    def along(weight: int, axis: int) -> np.ndarray:
        for one in channels.axes:
            if (one.layer, one.weight, one.axis) == (layer.name, weight, axis):
                return counts(one.placement)
        return constant(layer.weights[weight].shape[axis])

    leaving = counts(channels.tensors[step.outputs[0]]) if step.outputs else constant(1)
    if kind in _CONVOLUTIONS or kind is _L.Dense:
        yield from _products(step, leaving, along, constant)
        yield _Operation(constant(0), leaving, fixed=_activation_bytes(layer.activation))
    elif kind is _L.BatchNormalization:
        if not _is_folded(channels, step):
            yield _Operation(constant(1), leaving, channel_bytes=2, channel_parameters=2, fixed=UNFOLDED_BYTES)
    elif kind is _L.PReLU:
        places = math.prod(layer.alpha.shape[:-1])
        yield _Operation(constant(places), along(0, layer.alpha.shape.rank - 1), weights=1, fixed=CONSTANTS_BYTES)
    elif kind is _L.Activation:
        yield _Operation(constant(0), leaving, fixed=_activation_bytes(layer.activation))
    elif kind is _L.LayerNormalization:
        yield _Operation(constant(1), leaving, channel_bytes=2, channel_parameters=2, fixed=LAYER_NORMALIZATION_BYTES)
    elif kind not in _FREE:
        fixed = CONSTANTS_BYTES if kind in _WITH_CONSTANTS or _slices(step) else OPERATION_BYTES
        if kind is _L.UpSampling1D or layer.weights:
            fixed = CONSTANTS_BYTES + sum(math.prod(weight.shape) for weight in layer.weights)
        yield _Operation(constant(0), leaving, fixed=fixed)


def _products(
    step: Step, leaving: np.ndarray, along: Callable[[int, int], np.ndarray], constant: Callable[[int], np.ndarray]
) -> Iterator[_Operation]:
    """Lists the convolutions or the matrix product of a layer."""
    layer, kind = step.layer, type(step.layer)
    kernel = tuple(layer.weights[0].shape)
    window = math.prod(kernel[:-2])
    before, after = (
        math.prod(side or 1 for side in tensor.shape[1:-1]) for tensor in (step.node.keras_inputs[0], step.node.outputs)
    )
    conv = {"channel_bytes": CHANNEL_BYTES, "channel_parameters": 1, "fixed": CONVOLUTION_BYTES}
    if kind is _L.Dense:
        yield _Operation(along(0, 0), leaving, 1, after, UNIT_BYTES, 1, DENSE_BYTES)
    elif kind in (_L.DepthwiseConv2D, _L.SeparableConv2D):
        middle = leaving if kind is _L.DepthwiseConv2D else along(1, 2)
        yield _Operation(constant(1), middle, window, after * window, has_zero_points=True, **conv)
        if kind is _L.SeparableConv2D:
            yield _Operation(middle, leaving, 1, after, has_zero_points=True, **conv)
    elif kind is _L.Conv2DTranspose:
        yield _Operation(along(0, 3), leaving, window, before * window, has_zero_points=True, **conv)
    else:
        entering = along(0, len(kernel) - 2)
        yield _Operation(entering, leaving, window, after * window, has_zero_points=True, **conv)


def _is_folded(channels: Channels, step: Step) -> bool:
    """Tells whether batch normalization is the only reader of a linear convolution or dense layer."""
    readers = [other for other in channels.steps if step.inputs[0] in other.inputs]
    makers = [other.layer for other in channels.steps if step.inputs[0] in other.outputs]
    return (
        len(readers) == 1
        and len(makers) == 1
        and type(makers[0]) in (*_CONVOLUTIONS, _L.Dense)
        and keras.activations.serialize(makers[0].activation) == "linear"
    )


def _activation_bytes(activation: object) -> int:
    """Estimates the bytes of an activation; ReLU is fused with the operation before it, and softmax ends the file."""
    name = keras.activations.serialize(activation)
    if name in ("linear", "relu", "relu6", "softmax"):
        return 0
    return 2 * OPERATION_BYTES if name in ("swish", "silu", "mish", "gelu", "hard_sigmoid") else OPERATION_BYTES


def _slices(step: Step) -> bool:
    call = call_of(step)
    return call is not None and call.name in (SLICE, SPLIT)
