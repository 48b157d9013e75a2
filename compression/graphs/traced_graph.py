# SPDX-License-Identifier: Apache-2.0
"""Reads facts from the graph of a traced function: its MACs and the operation that computes its output.

The graph is used instead of the Keras layers because every teacher has one, whatever library saved it, and because it
contains all operations that run, including those of custom layers, nested models and the functions of a SavedModel.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

# No public function inlines the calls within a graph and freezes it; TensorFlow's own guides import this one.
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

# Operations that change neither the values nor their number.
_PASSING = frozenset({"Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims", "Cast", "StopGradient", "Snapshot"})
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
# Operations whose computation is not visible in the graph that contains them.
_OPAQUE = _CALLS | {
    "XlaCallModule", "XlaLaunch", "While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase",
    "Enter", "Exit", "Switch", "Merge", "PyFunc", "EagerPyFunc", "PyFuncStateless", "RemoteCall",
    "CudnnRNN", "CudnnRNNV3",
}  # fmt: skip


@dataclass(frozen=True)
class GraphFacts:
    """Facts about a classifier that its graph shows.

    Attributes:
        macs: Multiply-accumulates per image in convolutions and matrix products; None if some of them are not visible.
        end: Type of the operation that computes the output ("Softmax", "BiasAdd" …), ignoring reshapes and casts; empty
            if it is not visible.
    """

    macs: int | None
    end: str


def read_graph(function: tf.types.experimental.ConcreteFunction, batch: int) -> GraphFacts:
    """Read the graph of a function.

    Args:
        function: Function that was traced with all dimensions known and has one output.
        batch: Number of images in the traced batch.
    """
    if any(op.type in _CALLS for op in function.graph.get_operations()):
        try:
            function = convert_variables_to_constants_v2(function, lower_control_flow=False)
        except (ValueError, NotImplementedError, tf.errors.OpError):
            # A graph that writes variables (counters, random state) cannot be frozen, and only these facts require it.
            return GraphFacts(None, "")
    output = function.outputs[0]
    macs = _macs(_ancestors(output.op))
    end = output.op
    while end.type in _PASSING:
        end = end.inputs[0].op
    return GraphFacts(None if macs is None else macs // batch, end.type)


def _ancestors(op: tf.Operation) -> list[tf.Operation]:
    """List the operations that an operation depends on, itself included, without those of other outputs."""
    seen: dict[str, tf.Operation] = {}
    waiting = [op]
    while waiting:
        op = waiting.pop()
        if op.name not in seen:
            seen[op.name] = op
            waiting.extend(tensor.op for tensor in op.inputs)
    return list(seen.values())


def _macs(operations: Iterable[tf.Operation]) -> int | None:
    total = 0
    for op in operations:
        if op.type in _OPAQUE:
            return None
        counter = _COUNTERS.get(op.type)
        if counter is None:
            continue
        shapes = [tensor.shape for tensor in (*op.inputs, op.outputs[0])]
        if not all(shape.is_fully_defined() for shape in shapes):
            return None
        total += counter(op, [shape.as_list() for shape in shapes])
    return total


# Each of these functions takes an operation and the shapes of its inputs, followed by the shape of its output.


def _convolution(_: Any, shapes: list[list[int]]) -> int:
    """Multiply the output elements by the height, width and input channels of the kernel (in HWIO order)."""
    return math.prod(shapes[-1]) * math.prod(shapes[1][:-1])


def _depthwise(_: Any, shapes: list[list[int]]) -> int:
    return math.prod(shapes[-1]) * math.prod(shapes[1][:2])


def _transposed_convolution(_: Any, shapes: list[list[int]]) -> int:
    """Multiply the input elements by height, width and output channels of the kernel; inputs: size, kernel, images."""
    return math.prod(shapes[2]) * math.prod(shapes[1][:-1])


def _matrix_product(op: tf.Operation, shapes: list[list[int]]) -> int:
    transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
    return math.prod(shapes[-1]) * shapes[0][-2 if transposed else -1]


def _einsum(op: tf.Operation, shapes: list[list[int]]) -> int:
    """Multiply the lengths of all indices; an ellipsis stands for the remaining dimensions."""
    lengths: dict[str, int] = {}
    for term, shape in zip(op.get_attr("equation").decode().split("->")[0].split(","), shapes, strict=False):
        left, dots, right = term.partition("...")
        middle = len(shape) - len(left) - len(right)
        lengths.update(zip(left, shape, strict=False))
        lengths.update(zip(right, shape[len(shape) - len(right) :], strict=False))
        if dots:
            for axis in range(middle):
                key = f"...{middle - axis}"  # aligned from the right, as in broadcasting
                lengths[key] = max(lengths.get(key, 1), shape[len(left) + axis])
    return math.prod(lengths.values())


_COUNTERS = {
    "Conv2D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed_convolution,
    "MatMul": _matrix_product,
    "BatchMatMul": _matrix_product,
    "BatchMatMulV2": _matrix_product,
    "Einsum": _einsum,
}
