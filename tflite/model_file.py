# SPDX-License-Identifier: Apache-2.0
"""What a .tflite file holds: tensors, operators, parameters, MACs, and the proof that it is full int8.

A "quantized" file may still hold float tensors, and a corrupt one can take the C++ interpreter down with it:
so what is said of a file is read from its bytes, and checked here before a runtime sees it.

Source of the checks: tensorflow/lite/core/interpreter_builder.cc and tensorflow/lite/tools/verifier.cc.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.macs import KERNEL_AND_BIAS, macs
from learn2compress.tflite.schema import MALFORMED, buffer_content, corrupt, unpack

_DTYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_CUSTOM = schema.BuiltinOperator.CUSTOM
# Bits an element takes in a buffer; string, resource and variant tensors have no fixed size.
_BITS = {
    **{"float32": 32, "float16": 16, "bfloat16": 16, "float64": 64, "complex64": 64, "complex128": 128},
    **{"int64": 64, "uint64": 64, "int32": 32, "uint32": 32, "int16": 16, "uint16": 16},
    **{"int8": 8, "uint8": 8, "bool": 8, "int4": 4, "int2": 2},
}
_FLOATS = frozenset({"float32", "float16", "bfloat16", "float64", "complex64", "complex128"})


@dataclass(frozen=True)
class Tensor:
    """A tensor: a constant of the file, or a value that is computed.

    `scale` and `zero_point` hold one element if the tensor is quantized as a whole, one a channel along
    `axis` if it is quantized per channel, none if it is not quantized.
    """

    index: int
    subgraph: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]  # -1 where a dimension is free
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    constant: bool
    bytes: int  # in the file for a constant, in memory for the others
    parameter: bool  # a kernel, a bias or another learnt constant
    sparsity: float | None  # of a kernel: the share of values that are zero, that is, the zero point

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def quantized(self) -> bool:
        return bool(self.scale)

    @property
    def per_channel(self) -> bool:
        return len(self.scale) > 1

    @property
    def is_float(self) -> bool:
        return self.dtype in _FLOATS


@dataclass(frozen=True)
class Operator:
    """An operator of a subgraph; `inputs` and `outputs` are its tensor indices, -1 for an input left out."""

    index: int
    subgraph: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    macs: int
    weight_bytes: int  # of its constant inputs


def mean_sparsity(tensors: Iterable[Tensor]) -> float | None:
    """The share of zeros over all kernels among the tensors; None if none of them is a kernel."""
    kernels = [(tensor.sparsity, tensor.elements) for tensor in tensors if tensor.sparsity is not None]
    elements = sum(count for _, count in kernels)
    return sum(share * count for share, count in kernels) / elements if elements else None


@dataclass(frozen=True)
class ModelFile:
    """What a .tflite file holds. The first subgraph is the model; others belong to control flow."""

    file: str
    tensors: tuple[Tensor, ...]  # of all subgraphs, in order
    operators: tuple[Operator, ...]  # of all subgraphs, in execution order
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @cached_property
    def parameters(self) -> int:
        """Learnt values: kernels, biases, and constants of element-wise arithmetic."""
        return sum(tensor.elements for tensor in self.tensors if tensor.parameter)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one invocation at the shapes in the file."""
        return sum(operator.macs for operator in self.operators)

    @cached_property
    def op_counts(self) -> dict[str, int]:
        """How often each operator occurs, most frequent first."""
        return dict(Counter(operator.name for operator in self.operators).most_common())

    @cached_property
    def float_tensors(self) -> tuple[str, ...]:
        """The names of the tensors that are not integers."""
        return tuple(tensor.name for tensor in self.tensors if tensor.is_float)

    @cached_property
    def sparsity(self) -> float | None:
        """The share of zeros over all kernels; None if the file has none."""
        return mean_sparsity(self.tensors)

    @property
    def input(self) -> Tensor:
        """The only input. Raises ModelFileError if there are none or several."""
        return _only(self.inputs, self.file, "input")

    @property
    def output(self) -> Tensor:
        """The only output. Raises ModelFileError if there are none or several."""
        return _only(self.outputs, self.file, "output")


@dataclass(frozen=True)
class Int8Proof:
    """Whether a file computes in 8-bit integers from input to output, and if not, why."""

    holds: bool
    float_tensors: list[str]
    input_dtype: str
    output_dtype: str
    reasons: list[str]


def read_model_file(path: str | Path) -> ModelFile:
    """Reads the .tflite file at a path. Raises ModelFileError if it cannot be read; see `read_model`."""
    return read_model(read_bytes(path), file=str(path))


def read_bytes(path: str | Path) -> bytes:
    """Returns the bytes of a model file. Raises ModelFileError that names it if there is no such file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"A model file must be readable; got {path} ({error.strerror}). Give the path of a .tflite file."
        ) from error


def read_model(data: bytes, *, file: str = "the model") -> ModelFile:
    """Reads a .tflite file.

    Args:
        data: the bytes of the file; associated files appended to them are ignored.
        file: what errors call it.

    Raises:
        ModelFileError: the bytes are cut short, are no .tflite file, or contradict themselves.
    """
    return describe_model(unpack(data, file=file), bytes(data), file=file)


def describe_model(model: schema.ModelT, data: bytes = b"", *, file: str = "the model") -> ModelFile:
    """Describes the schema's objects of a file.

    Args:
        model: The objects.
        data: The bytes they were unpacked from, in which a file over 2 GB keeps its buffers.
        file: What errors call it.

    Raises:
        ModelFileError: The objects contradict each other.
    """
    try:
        return _describe(model, data, file)
    except MALFORMED as error:
        raise corrupt(file, f"its tables make no sense: {error}") from error


def prove_full_int8(model: ModelFile) -> Int8Proof:
    """Checks that a model has no float tensor at all, no 16-bit activation, and 8-bit input and output."""
    reasons = []
    if model.float_tensors:
        reasons.append(f"{len(model.float_tensors)} float tensor(s): {_first(model.float_tensors)}")
    wide = [tensor.name for tensor in model.tensors if tensor.dtype == "int16" and not tensor.constant]
    if wide:
        reasons.append(f"{len(wide)} tensor(s) computed in 16 bits: {_first(wide)}")
    for what, tensors in (("input", model.inputs), ("output", model.outputs)):
        reasons += [
            f"{what} {tensor.name} is {tensor.dtype}" for tensor in tensors if tensor.dtype not in ("int8", "uint8")
        ]
    return Int8Proof(
        holds=not reasons,
        float_tensors=list(model.float_tensors),
        input_dtype=", ".join(tensor.dtype for tensor in model.inputs),
        output_dtype=", ".join(tensor.dtype for tensor in model.outputs),
        reasons=reasons,
    )


def _first(names: Sequence[str]) -> str:
    # A converter names a tensor by all it was fused from: the last is the one a reader knows.
    shown = ", ".join(name.split(";")[-1] for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _only(tensors: tuple[Tensor, ...], file: str, what: str) -> Tensor:
    if len(tensors) != 1:
        raise ModelFileError(
            f"The model must have one {what}; got {len(tensors)} in {file}. Export the model with one {what}."
        )
    return tensors[0]


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise ValueError(reason)


def _describe(model: schema.ModelT, data: bytes, file: str) -> ModelFile:
    _require(bool(model.subgraphs), "there is no subgraph")
    _require(model.buffers is not None, "there are no buffers")
    for index, code in enumerate(model.operatorCodes or []):
        _require(_code(code) in _OPERATORS, f"operator code {index} is {_code(code)}")
    tensors: list[Tensor] = []
    operators: list[Operator] = []
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    for number, subgraph in enumerate(model.subgraphs):
        count = len(subgraph.tensors or [])
        names = [_operator_name(model, operator) for operator in subgraph.operators or []]
        for operator in subgraph.operators or []:
            missing = operator.inputs is None or operator.outputs is None
            _require(not missing, "an operator has no inputs or outputs")
            _require(all(-1 <= i < count for i in operator.inputs), "an operator reads a tensor not there")
            _require(all(0 <= i < count for i in operator.outputs), "an operator writes a tensor not there")
        ends = [_indices(subgraph.inputs), _indices(subgraph.outputs)]
        _require(all(0 <= i < count for end in ends for i in end), "an input or output is not there")
        biases = _biases(subgraph, names)
        own = [
            _tensor(model, data, number, index, tensor, index in biases)
            for index, tensor in enumerate(subgraph.tensors or [])
        ]
        _check_flow(subgraph, own)
        if number == 0:
            inputs, outputs = (tuple(own[i] for i in end) for end in ends)
        for index, (name, operator) in enumerate(zip(names, subgraph.operators or [], strict=True)):
            reads, writes = _indices(operator.inputs), _indices(operator.outputs)
            operators.append(
                Operator(
                    index=index,
                    subgraph=number,
                    name=name,
                    inputs=reads,
                    outputs=writes,
                    macs=macs(
                        name,
                        [own[i].shape if i >= 0 else None for i in reads],
                        [own[i].shape for i in writes],
                        transposed=bool(getattr(operator.builtinOptions, "adjX", False)),
                    ),
                    weight_bytes=sum(own[i].bytes for i in reads if i >= 0 and own[i].constant),
                )
            )
        tensors += own
    return ModelFile(file, tuple(tensors), tuple(operators), inputs, outputs)


def _check_flow(subgraph: schema.SubGraphT, tensors: list[Tensor]) -> None:
    """Requires that what an operator reads is there by then, and that it writes what nothing else gives."""
    given = {i for i, tensor in enumerate(tensors) if tensor.constant or subgraph.tensors[i].isVariable}
    given |= set(_indices(subgraph.inputs))
    for operator in subgraph.operators or []:
        for i in _indices(operator.inputs):
            _require(i in given or i == -1, f"tensor {tensors[i].name} is read before it is written")
        for i in _indices(operator.outputs):
            _require(i not in given, f"tensor {tensors[i].name} is written twice, or a constant")
            given.add(i)


def _indices(vector: object) -> tuple[int, ...]:
    return () if vector is None else tuple(int(value) for value in vector)  # type: ignore[attr-defined]


def _code(code: schema.OperatorCodeT) -> int:
    # Codes above 127 are in the newer, wider field; older files have only the narrow one.
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    codes = model.operatorCodes or []
    _require(operator.opcodeIndex < len(codes), "an operator has no code")
    code = codes[operator.opcodeIndex]
    if _code(code) == _CUSTOM and code.customCode:
        return code.customCode.decode("utf-8", "replace")
    return _OPERATORS[_code(code)]


def _biases(subgraph: schema.SubGraphT, names: list[str]) -> frozenset[int]:
    found = set()
    for name, operator in zip(names, subgraph.operators or [], strict=True):
        bias = KERNEL_AND_BIAS.get(name, (0, math.inf))[1]
        if bias < len(operator.inputs):
            found.add(int(operator.inputs[bias]))
    return frozenset(found)


def _tensor(model: schema.ModelT, data: bytes, subgraph: int, index: int, tensor: schema.TensorT, bias: bool) -> Tensor:
    name = (tensor.name or b"").decode("utf-8", "replace") or f"#{index}"
    shape = _indices(tensor.shape)
    _require(all(side >= 0 for side in shape), f"tensor {name} has the shape {shape}")
    _require(tensor.type in _DTYPES, f"tensor {name} has the type {tensor.type}")
    dtype = _DTYPES[tensor.type]
    _require(tensor.buffer < len(model.buffers), f"tensor {name} has no buffer")
    content = buffer_content(model.buffers[tensor.buffer], data)
    elements = math.prod(shape)
    expected = (elements * _BITS[dtype] + 7) // 8 if dtype in _BITS else 0
    if content is not None and dtype in _BITS and tensor.sparsity is None and tensor.shape is not None:
        _require(len(content) == expected, f"tensor {name} needs {expected} bytes and has {len(content)}")
    constant = content is not None
    parameter = constant and (bias or dtype in _FLOATS or dtype in ("int8", "uint8", "int16", "int4", "int2"))
    scale, zero_point, axis = _quantization(tensor, name, shape)
    kernel = parameter and not bias and len(shape) > 1 and elements > 0
    return Tensor(
        index=index,
        subgraph=subgraph,
        name=name,
        shape=shape,
        shape_signature=_indices(tensor.shapeSignature) or shape,
        dtype=dtype,
        scale=scale,
        zero_point=zero_point,
        axis=axis,
        constant=constant,
        bytes=len(content) if content is not None else expected,
        parameter=parameter,
        sparsity=_sparsity(content, dtype, shape, zero_point, axis) if kernel and content is not None else None,
    )


def _quantization(
    tensor: schema.TensorT, name: str, shape: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    found = tensor.quantization
    if found is None or found.scale is None or len(found.scale) == 0:
        return (), (), 0
    _require(
        found.zeroPoint is not None and len(found.zeroPoint) == len(found.scale),
        f"tensor {name} has not as many zero points as scales",
    )
    axis = found.quantizedDimension
    _require(not shape or 0 <= axis < len(shape), f"tensor {name} is quantized along the dimension {axis}")
    _require(
        len(found.scale) == 1 or not shape or len(found.scale) == shape[axis],
        f"tensor {name} has {len(found.scale)} scales for the shape {shape}",
    )
    return tuple(map(float, found.scale)), tuple(map(int, found.zeroPoint)), axis


def _sparsity(
    content: np.ndarray, dtype: str, shape: tuple[int, ...], zero_point: tuple[int, ...], axis: int
) -> float | None:
    if dtype in ("int4", "int2"):
        # Packed from the low bits on, in two's complement; the zero point is 0.
        bits = _BITS[dtype]
        mask = (1 << bits) - 1
        values = np.stack([content >> shift & mask for shift in range(0, 8, bits)], axis=1).ravel()
    elif dtype == "bfloat16":
        values = content.view(np.uint16) & 0x7FFF
    else:
        values = content.view(dtype)
    elements = math.prod(shape)
    if len(zero_point) > 1 and any(zero_point) and len(values) == elements:
        sides = [1] * len(shape)
        sides[axis] = len(zero_point)
        zeros = np.count_nonzero(values.reshape(shape) == np.reshape(zero_point, sides))
        return zeros / elements
    zero = zero_point[0] if zero_point else 0
    # A sparsely encoded kernel stores fewer values than it has: those left out are zeros.
    return (elements - np.count_nonzero(values[:elements] != zero)) / elements
