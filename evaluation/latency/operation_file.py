# SPDX-License-Identifier: Apache-2.0
"""Writes a full-int8 .tflite file of one operation, or of the same one several times, to be timed.

The objects of the schema are made directly, without TensorFlow: quantized per channel as the converter does, with
random weights, since latency does not depend on them.

Source: tensorflow/lite/schema/schema.fbs; https://ai.google.dev/edge/litert/models/quantization_spec
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from learn2compress.evaluation.latency.operations import Operation

_INT8, _INT32 = schema.TensorType.INT8, schema.TensorType.INT32
_RELU = schema.ActivationFunctionType.RELU
_SCALE = 0.05  # of activations and weights
# Least version of each operator that takes int8.
_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "MEAN": 2, "ADD": 2, "SOFTMAX": 2}


def operation_file(operation: Operation, times: int = 1) -> bytes:
    """Write the file.

    Args:
        operation: The operation; if it is repeated, its output must have the shape of its input.
        times: Number of repetitions, one after the other.

    Returns:
        Bytes of a .tflite file with one input and one output.
    """
    writer = _Writer()
    first = at = writer.activation(_input_shape(operation))
    for _ in range(times):
        at = _add(writer, operation, at)
    return writer.finish(first, at)


def _input_shape(operation: Operation) -> tuple[int, ...]:
    if operation.kind in ("dense", "softmax"):
        return (1, operation.inputs)
    return (1, operation.height * operation.stride, operation.width * operation.stride, operation.inputs)


def _add(writer: _Writer, operation: Operation, at: int) -> int:
    """Append the operation; return the index of the output tensor."""
    one, side = operation, operation.kernel
    image = (1, one.height, one.width, one.outputs)
    if one.kind in ("conv", "pointwise"):
        options: Any = schema.Conv2DOptionsT()
        options.strideW = options.strideH = one.stride
        options.fusedActivationFunction = _RELU
        kernel = writer.kernel((one.outputs, side, side, one.inputs), axis=0)
        return writer.operator("CONV_2D", options, (at, kernel, writer.bias(one.outputs)), image)
    if one.kind == "depthwise":
        options = schema.DepthwiseConv2DOptionsT()
        options.strideW = options.strideH = one.stride
        options.depthMultiplier, options.fusedActivationFunction = 1, _RELU
        kernel = writer.kernel((1, side, side, one.outputs), axis=3)
        return writer.operator("DEPTHWISE_CONV_2D", options, (at, kernel, writer.bias(one.outputs)), image)
    if one.kind == "dense":
        kernel = writer.kernel((one.outputs, one.inputs), axis=None)
        inputs = (at, kernel, writer.bias(one.outputs, per_channel=False))
        return writer.operator("FULLY_CONNECTED", schema.FullyConnectedOptionsT(), inputs, (1, one.outputs))
    if one.kind == "mean":
        axes = writer.tensor((2,), _INT32, np.array([1, 2], np.int32))
        return writer.operator("MEAN", schema.ReducerOptionsT(), (at, axes), (1, one.outputs))
    if one.kind == "add":
        options = schema.AddOptionsT()
        options.fusedActivationFunction = _RELU
        return writer.operator("ADD", options, (at, at), image)
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    return writer.operator("SOFTMAX", options, (at,), (1, one.outputs), scale=1 / 256, zero_point=-128)


class _Writer:
    """Collects the tensors, constants and operators of a file."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]
        self._operators: list[Any] = []
        self._codes: list[str] = []
        self._random = np.random.default_rng(0)

    def activation(self, shape: tuple[int, ...], scale: float = _SCALE, zero_point: int = 0) -> int:
        """Add a tensor that is computed; return its index."""
        return self.tensor(shape, _INT8, None, [scale], [zero_point])

    def kernel(self, shape: tuple[int, ...], axis: int | None) -> int:
        """Add random weights, with a scale for each channel along an axis, or one for all."""
        channels = 1 if axis is None else shape[axis]
        values = self._random.integers(-127, 128, shape, np.int8)
        return self.tensor(shape, _INT8, values, [_SCALE] * channels, [0] * channels, axis or 0)

    def bias(self, channels: int, per_channel: bool = True) -> int:
        """Add a bias of zeros."""
        count = channels if per_channel else 1
        return self.tensor((channels,), _INT32, np.zeros(channels, np.int32), [_SCALE**2] * count, [0] * count)

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: int,
        values: np.ndarray | None,
        scale: list[float] | None = None,
        zero_point: list[int] | None = None,
        axis: int = 0,
    ) -> int:
        """Add a tensor, constant if it has values; return its index."""
        tensor: Any = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = list(shape), dtype, f"t{len(self._tensors)}"
        tensor.buffer = 0
        if values is not None:
            buffer: Any = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        if scale is not None:
            tensor.quantization = quantization = schema.QuantizationParametersT()
            quantization.scale, quantization.zeroPoint, quantization.quantizedDimension = scale, zero_point, axis
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def operator(
        self,
        name: str,
        options: Any,
        inputs: tuple[int, ...],
        shape: tuple[int, ...],
        scale: float = _SCALE,
        zero_point: int = 0,
    ) -> int:
        """Add an operator and its output; return the index of the output."""
        if name not in self._codes:
            self._codes.append(name)
        operator: Any = schema.OperatorT()
        operator.opcodeIndex = self._codes.index(name)
        made = self.activation(shape, scale, zero_point)
        operator.inputs, operator.outputs = list(inputs), [made]
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._operators.append(operator)
        return made

    def finish(self, first: int, last: int) -> bytes:
        """Pack the file with its input and output."""
        graph: Any = schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = [first], [last]
        model: Any = schema.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [graph], self._buffers
        model.operatorCodes = [self._code(name) for name in self._codes]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    @staticmethod
    def _code(name: str) -> Any:
        code: Any = schema.OperatorCodeT()
        number = getattr(schema.BuiltinOperator, name)
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), _VERSIONS[name]
        return code
