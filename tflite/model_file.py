# SPDX-License-Identifier: Apache-2.0
"""Describes the contents of a .tflite file: tensors, operators, parameters, MACs, and whether it is full int8.

A "quantized" file may still have float tensors, and a corrupt file can crash the C++ interpreter. Therefore the
description is read from the bytes of the file, which are checked here before a runtime loads them.

Source of the checks: tensorflow/lite/core/interpreter_builder.cc and tensorflow/lite/tools/verifier.cc.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.macs import KERNEL_AND_BIAS, macs
from learn2compress.tflite.schema import MALFORMED, buffer_content, corrupt, unpack
from learn2compress.tflite.signatures import Signature, list_signatures, reachable_subgraphs
from learn2compress.tflite.sparsity import BITS, count_sparsity

_DTYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_CUSTOM = schema.BuiltinOperator.CUSTOM
_BUILTIN_NAMES = frozenset(_OPERATORS.values())
_FLOATS = frozenset({"float32", "float16", "bfloat16", "float64", "complex64", "complex128"})


@dataclass(frozen=True)
class Tensor:
    """A tensor: a constant of the file, or a value that is computed.

    `scale` and `zero_point` have one element if the tensor is quantized per tensor, one for each channel along `axis`
    if it is quantized per channel, and none if it is not quantized.
    """

    index: int
    subgraph: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]  # -1 for a free dimension
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    constant: bool
    bytes: int  # in the file (constants) or in memory (other tensors)
    parameter: bool  # whether it is a kernel, a bias or another learned constant
    sparsity: float | None  # fraction of zeros (values equal to the zero point) of a kernel

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
    """An operator of a subgraph; `inputs` and `outputs` are tensor indices, -1 for an input that is left out."""

    index: int
    subgraph: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    macs: int
    weight_bytes: int  # of its constant inputs


def mean_sparsity(tensors: Iterable[Tensor]) -> float | None:
    """Computes the fraction of zeros over all kernels among tensors; None if none of them is a kernel."""
    kernels = [(tensor.sparsity, tensor.elements) for tensor in tensors if tensor.sparsity is not None]
    elements = sum(count for _, count in kernels)
    return sum(share * count for share, count in kernels) / elements if elements else None


@dataclass(frozen=True)
class ModelFile:
    """Contents of a .tflite file.

    The first subgraph is the model; others are bodies of its control flow, or belong to another signature. Sums are
    over the first subgraph and what it computes with; `costs_of` gives those of another entry point.
    """

    file: str
    tensors: tuple[Tensor, ...]  # of all subgraphs, in order
    operators: tuple[Operator, ...]  # of all subgraphs, in execution order
    inputs: tuple[Tensor, ...]  # of the first subgraph
    outputs: tuple[Tensor, ...]
    signatures: tuple[Signature, ...] = ()
    reachable: tuple[frozenset[int], ...] = ()  # for each subgraph, those that it computes with

    @cached_property
    def own_tensors(self) -> tuple[Tensor, ...]:
        """The tensors of the first subgraph and of those that it computes with."""
        return tuple(tensor for tensor in self.tensors if self._uses(tensor.subgraph))

    @cached_property
    def own_operators(self) -> tuple[Operator, ...]:
        """The operators of the first subgraph and of those that it computes with."""
        return tuple(operator for operator in self.operators if self._uses(operator.subgraph))

    def costs_of(self, signature: Signature) -> tuple[int, int]:
        """Returns the parameters and the MACs of one entry point."""
        used = self.reachable[signature.subgraph]
        parameters = sum(tensor.elements for tensor in self.tensors if tensor.parameter and tensor.subgraph in used)
        return parameters, sum(operator.macs for operator in self.operators if operator.subgraph in used)

    def _uses(self, subgraph: int) -> bool:
        return not self.reachable or subgraph in self.reachable[0]

    @cached_property
    def parameters(self) -> int:
        """Number of learned values: kernels, biases, and constants of element-wise arithmetic."""
        return sum(tensor.elements for tensor in self.own_tensors if tensor.parameter)

    @cached_property
    def macs(self) -> int:
        """Number of multiply-accumulates of one invocation with the shapes in the file."""
        return sum(operator.macs for operator in self.own_operators)

    @cached_property
    def op_counts(self) -> dict[str, int]:
        """Number of occurrences of each operator, most frequent first."""
        return dict(Counter(operator.name for operator in self.own_operators).most_common())

    @cached_property
    def custom_operators(self) -> tuple[str, ...]:
        """Names of the operators that are not built in: what they compute cannot be told."""
        return tuple(name for name in self.op_counts if name not in _BUILTIN_NAMES)

    @cached_property
    def float_tensors(self) -> tuple[str, ...]:
        """Names of the tensors of floating-point types."""
        return tuple(tensor.name for tensor in self.own_tensors if tensor.is_float)

    @cached_property
    def sparsity(self) -> float | None:
        """Fraction of zeros over all kernels; None if the file has no kernels."""
        return mean_sparsity(self.own_tensors)

    @property
    def input(self) -> Tensor:
        """The only input.

        Raises:
            ModelFileError: There is no input, or there are several.
        """
        return _only(self.inputs, self.file, "input")

    @property
    def output(self) -> Tensor:
        """The only output.

        Raises:
            ModelFileError: There is no output, or there are several.
        """
        return _only(self.outputs, self.file, "output")


@dataclass(frozen=True)
class Int8Proof:
    """Whether a file computes in 8-bit integers from input to output, and the reasons if it does not."""

    holds: bool
    float_tensors: list[str]
    input_dtype: str
    output_dtype: str
    reasons: list[str]


def read_model_file(path: str | Path) -> ModelFile:
    """Reads and describes the .tflite file at a path.

    Raises:
        ModelFileError: The file cannot be read, or is not a valid .tflite file; see `read_model`.
    """
    return read_model(read_bytes(path), file=str(path))


def read_bytes(path: str | Path) -> bytes:
    """Reads the bytes of a model file.

    Raises:
        ModelFileError: The file does not exist or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"A model file must be readable; got {path} ({error.strerror}). Give the path of a .tflite file."
        ) from error


def read_model(data: bytes, *, file: str = "the model") -> ModelFile:
    """Reads and describes a .tflite file.

    Args:
        data: Bytes of the file; associated files appended to them are ignored.
        file: Name of the file in error messages.

    Raises:
        ModelFileError: The bytes are truncated, are not a .tflite file, or are inconsistent.
    """
    return describe_model(unpack(data, file=file), bytes(data), file=file)


def describe_model(model: schema.ModelT, data: bytes = b"", *, file: str = "the model") -> ModelFile:
    """Describes the schema's objects of a file.

    Args:
        model: Objects of the schema.
        data: Bytes that they were unpacked from, which contain the buffers of a file over 2 GB.
        file: Name of the file in error messages.

    Raises:
        ModelFileError: The objects are inconsistent.
    """
    try:
        return _describe(model, data, file)
    except MALFORMED as error:
        raise corrupt(file, f"its tables are inconsistent: {error}") from error


def prove_full_int8(model: ModelFile) -> Int8Proof:
    """Checks that a model has no float tensors, no 16-bit activations, and 8-bit ends; ids of rows may be wider."""
    reasons = []
    if model.float_tensors:
        reasons.append(f"{len(model.float_tensors)} float tensor(s): {_first(model.float_tensors)}")
    wide = [tensor.name for tensor in model.own_tensors if tensor.dtype == "int16" and not tensor.constant]
    if wide:
        reasons.append(f"{len(wide)} tensor(s) computed in 16 bits: {_first(wide)}")
    if model.custom_operators:
        reasons.append(f"custom operators, of which it cannot be told: {_first(model.custom_operators)}")
    for what, tensors in (("input", model.inputs), ("output", model.outputs)):
        ends = [one for one in tensors if one.dtype not in ("int8", "uint8") and not _chooses_rows(model, one)]
        reasons += [f"{what} {tensor.name} is {tensor.dtype}" for tensor in ends]
    return Int8Proof(
        holds=not reasons,
        float_tensors=list(model.float_tensors),
        input_dtype=", ".join(tensor.dtype for tensor in model.inputs),
        output_dtype=", ".join(tensor.dtype for tensor in model.outputs),
        reasons=reasons,
    )


def _chooses_rows(model: ModelFile, tensor: Tensor) -> bool:
    """Tells whether integers are read only as the indices of tables, such as the ids of words."""
    places = {"GATHER": 1, "EMBEDDING_LOOKUP": 0}  # of the indices among the operator's inputs
    readers = [one for one in model.operators if one.subgraph == 0 and tensor.index in one.inputs]
    indexed = [places.get(one.name, -1) == one.inputs.index(tensor.index) for one in readers]
    return tensor.dtype in ("int32", "int64") and bool(readers) and all(indexed)


def _first(names: Sequence[str]) -> str:
    # The converter lists all layers that a tensor was fused from; the last one is the most familiar.
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
        for name, operator in zip(names, subgraph.operators or [], strict=True):
            missing = operator.inputs is None or operator.outputs is None
            _require(not missing or name not in _BUILTIN_NAMES, "an operator has no inputs or outputs")
            _require(
                all(-1 <= i < count for i in _indices(operator.inputs)),
                "an operator reads a tensor that does not exist",
            )
            _require(
                all(0 <= i < count for i in _indices(operator.outputs)),
                "an operator writes a tensor that does not exist",
            )
        ends = [_indices(subgraph.inputs), _indices(subgraph.outputs)]
        _require(all(0 <= i < count for end in ends for i in end), "an input or output does not exist")
        biases = _biases(subgraph, names)
        own = [
            _tensor(model, data, number, index, tensor, index in biases)
            for index, tensor in enumerate(subgraph.tensors or [])
        ]
        _check_flow(subgraph, own, names)
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
    signatures = list_signatures(model)
    for signature in signatures:
        _check_signature(signature, [len(graph.tensors or []) for graph in model.subgraphs])
    reachable = tuple(reachable_subgraphs(model, start) for start in range(len(model.subgraphs)))
    return ModelFile(file, tuple(tensors), tuple(operators), inputs, outputs, signatures, reachable)


def _check_signature(signature: Signature, counts: list[int]) -> None:
    _require(signature.subgraph < len(counts), f"signature {signature.name} is of a subgraph that does not exist")
    count = counts[signature.subgraph]
    inside = all(0 <= index < count for _, index in (*signature.inputs, *signature.outputs))
    _require(inside, f"signature {signature.name} names a tensor that does not exist")


def _check_flow(subgraph: schema.SubGraphT, tensors: list[Tensor], names: list[str]) -> None:
    """Requires that operators read only tensors with values, and that each tensor is written once.

    A custom operator may read scratch memory that nothing writes, as those of Vela do.
    """
    given = {i for i, tensor in enumerate(tensors) if tensor.constant or subgraph.tensors[i].isVariable}
    given |= set(_indices(subgraph.inputs))
    for name, operator in zip(names, subgraph.operators or [], strict=True):
        for i in _indices(operator.inputs):
            known = i in given or i == -1 or name not in _BUILTIN_NAMES
            _require(known, f"tensor {tensors[i].name} is read before it is written")
        for i in _indices(operator.outputs):
            _require(i not in given, f"tensor {tensors[i].name} is written twice, or a constant")
            given.add(i)


def _indices(vector: object) -> tuple[int, ...]:
    return () if vector is None else tuple(int(value) for value in vector)  # type: ignore[attr-defined]


def _code(code: schema.OperatorCodeT) -> int:
    # Codes above 127 are in the newer, wider field; older files have only the narrow field.
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
        inputs = _indices(operator.inputs)
        if bias < len(inputs):
            found.add(inputs[int(bias)])
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
    expected = (elements * BITS[dtype] + 7) // 8 if dtype in BITS else 0
    if content is not None and not len(content) and (expected or tensor.buffer == 0):
        content = None  # an empty vector is no content: other converters write it for what is computed
    if content is not None and dtype in BITS and tensor.sparsity is None and tensor.shape is not None:
        _require(len(content) == expected, f"tensor {name} must have {expected} bytes; it has {len(content)}")
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
        sparsity=count_sparsity(content, dtype, shape, zero_point, axis) if kernel and content is not None else None,
    )


def _quantization(
    tensor: schema.TensorT, name: str, shape: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    found = tensor.quantization
    if found is None or found.scale is None or len(found.scale) == 0:
        return (), (), 0
    # Of a vector that is left out, each element is 0.
    zero_points = _indices(found.zeroPoint) or (0,) * len(found.scale)
    _require(len(zero_points) == len(found.scale), f"tensor {name} has different numbers of zero points and scales")
    axis = found.quantizedDimension
    if len(found.scale) > 1 and shape:
        # With one scale for all, the runtime does not look at the dimension.
        _require(0 <= axis < len(shape), f"tensor {name} is quantized along the dimension {axis}")
        scales = f"tensor {name} has {len(found.scale)} scales for the shape {shape}"
        _require(len(found.scale) == shape[axis], scales)
    return tuple(map(float, found.scale)), zero_points, axis
