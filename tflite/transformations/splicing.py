# SPDX-License-Identifier: Apache-2.0
"""Combines two .tflite files: some operators from a student's int8 file, the others from its float file.

Both are conversions of the same graph, so that each operator of one file has a counterpart in the other. Between an
operator in float and one in 8 bits, a QUANTIZE or DEQUANTIZE operator converts the value with the scale of the int8
file. Thus a single operator can be measured in 8 bits while all others are in float, and a file can keep a few
operators in float: with the kernels, ranges and rounding of the int8 file, and without another conversion.
"""

import copy
from collections.abc import Collection
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.parsed_file import ParsedFile, parse_file

_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_PASSING = ("QUANTIZE", "DEQUANTIZE")
# Versions of DEQUANTIZE by input type, and of QUANTIZE from integers to integers, as older runtimes require.
_DEQUANTIZE_VERSIONS = {schema.TensorType.UINT8: 1, schema.TensorType.INT8: 2}
_REQUANTIZE_VERSION = 2


@dataclass(frozen=True)
class Step:
    """An operator that both files have.

    A value is identified by the index of its tensor in the float file.

    Attributes:
        op: Name of the operator, such as CONV_2D.
        integer: Operator in the int8 file.
        floating: Operator in the float file.
        place: Index of `floating` among the operators of its file.
        reads: Values that the operator reads.
        writes: Values that the operator writes.
        rounded: Whether its output in the int8 file is integers with a scale. Booleans and counts have none.
    """

    op: str
    integer: schema.OperatorT
    floating: schema.OperatorT
    place: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    rounded: bool


@dataclass(frozen=True)
class Pair:
    """The int8 and float file of a student, with their operators matched.

    Attributes:
        integer: The int8 file.
        floating: The float file.
        steps: Operators that both files have, in the order of the int8 file.
        values: Index of each activation's tensor in the float file, by its index in the int8 file.
    """

    integer: ParsedFile
    floating: ParsedFile
    steps: tuple[Step, ...]
    values: dict[int, int]

    @property
    def logits(self) -> int:
        """The input of the softmax at the end, or the output if there is no softmax."""
        output = int(self.floating.objects.subgraphs[0].outputs[0])
        last = self.steps[-1]
        return last.reads[0] if last.op == "SOFTMAX" and last.writes == (output,) else output

    def readers(self, step: int) -> set[int]:
        """Finds the steps that read the output of a step."""
        written = set(self.steps[step].writes)
        return {index for index, other in enumerate(self.steps) if written & set(other.reads)}

    def written(self, step: int) -> schema.TensorT:
        """Returns the output tensor of a step in the int8 file."""
        return self.integer.objects.subgraphs[0].tensors[int(self.steps[step].integer.outputs[0])]


def pair_files(floating: bytes | ParsedFile, integer: bytes | ParsedFile, *, file: str = "the model") -> Pair:
    """Matches the operators of an int8 file with those of the float file of the same student.

    Args:
        floating: Float32 file.
        integer: Int8 file, any part of which may be in float.
        file: Name of the int8 file in error messages.

    Returns:
        Both files with their operators matched.

    Raises:
        ModelFileError: The files are not conversions of the same graph, or have more than one subgraph.
    """
    files = [parse_file(source, file=file) for source in (floating, integer)]
    pair = [found.objects for found in files]
    if any(len(model.subgraphs) != 1 for model in pair):
        raise ModelFileError(f"{file} must have one subgraph to be compared with its float file; it has control flow.")
    first, second = (model.subgraphs[0] for model in pair)
    values = {int(i): int(f) for i, f in zip(second.inputs, first.inputs, strict=True)}
    unmatched = dict(enumerate(first.operators))
    steps: list[Step] = []
    for operator in second.operators:
        op = _name(pair[1], operator)
        reads = _activations(pair[1], operator, values)
        if op in _PASSING and len(reads) == 1:
            values[int(operator.outputs[0])] = reads[0]
            continue
        shapes = _shapes(second, operator)
        counterpart = next(
            (
                place
                for place, other in unmatched.items()
                if _name(pair[0], other) == op
                and _activations(pair[0], other) == reads
                and _shapes(first, other) == shapes
            ),
            None,
        )
        if counterpart is None:
            raise ModelFileError(
                f"{file} must have the operators of its float file; its {op} at {len(steps)} has no counterpart there."
            )
        other = unmatched.pop(counterpart)
        writes = tuple(int(i) for i in other.outputs)
        values.update(zip((int(i) for i in operator.outputs), writes, strict=True))
        steps.append(Step(op, operator, other, counterpart, reads, writes, _is_rounded(second, operator)))
    if unmatched:
        missing = ", ".join(_name(pair[0], other) for other in unmatched.values())
        raise ModelFileError(f"{file} must have the operators of its float file; it lacks {missing}.")
    return Pair(files[1], files[0], tuple(steps), values)


def splice(
    pair: Pair,
    in_float: Collection[int],
    *,
    float_ends: bool = False,
    rounded: Collection[int] = (),
    outputs: Collection[int] | None = None,
) -> ParsedFile:
    """Combines the int8 and the float file of a student into one file.

    Args:
        pair: The two files.
        in_float: Indices of the steps from the float file; the others are from the int8 file.
        float_ends: Whether input and outputs are floats; otherwise they are those of the int8 file.
        rounded: Steps among `in_float` whose inputs are rounded as in the int8 file.
        outputs: Values that the file outputs; default: the outputs of the two files.

    Returns:
        A file without metadata, which shares constants and scales with the two files.
    """
    builder = _Builder(pair)
    integer, floating = pair.integer.objects, pair.floating.objects
    source = floating if float_ends else integer
    graph = source.subgraphs[0]
    builder.graph.inputs = []
    for place, value in zip(graph.inputs, floating.subgraphs[0].inputs, strict=True):
        tensor = builder.tensor(source, int(place))
        builder.graph.inputs.append(tensor)
        builder.given[int(value)] = [tensor]
    for index, step in enumerate(pair.steps):
        builder.take(step, index in in_float, index in rounded)
    if outputs is not None:
        builder.graph.outputs = [builder.in_float(value) for value in outputs]
    else:
        ends = [(pair.values[int(i)], int(i)) for i in integer.subgraphs[0].outputs]
        builder.graph.outputs = [
            builder.in_float(value) if float_ends else builder.as_in(value, place) for value, place in ends
        ]
    return ParsedFile(builder.model, file=pair.integer.file)


class _Builder:
    """Builder of a model. `given` has the tensors of each value so far, the one in which it was computed first."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.integer, self.floating = pair.integer.objects, pair.floating.objects
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.graph.name = self.integer.subgraphs[0].name
        self.model = schema.ModelT()
        self.model.version = self.integer.version
        self.model.subgraphs, self.model.buffers, self.model.operatorCodes = [self.graph], [schema.BufferT()], []
        self.given: dict[int, list[int]] = {}
        self._moved: dict[tuple[int, int], int] = {}
        self._codes: dict[tuple[int, int, int, bytes | None], int] = {}

    def tensor(self, source: schema.ModelT, index: int) -> int:
        """Copies a tensor with its content into the model, once."""
        key = (id(source), index)
        if key not in self._moved:
            tensor = copy.copy(source.subgraphs[0].tensors[index])
            content = source.buffers[tensor.buffer].data
            tensor.buffer = 0
            if content is not None:
                tensor.buffer = len(self.model.buffers)
                self.model.buffers.append(schema.BufferT(data=content))
            self._moved[key] = len(self.graph.tensors)
            self.graph.tensors.append(tensor)
        return self._moved[key]

    def take(self, step: Step, in_float: bool, rounded: bool) -> None:
        """Adds a step from one of the files, and the operators that convert its inputs."""
        source = self.floating if in_float else self.integer
        found = step.floating if in_float else step.integer
        operator = copy.copy(found)
        code = source.operatorCodes[found.opcodeIndex]
        operator.opcodeIndex = self._code(code.builtinCode, code.deprecatedBuiltinCode, code.version, code.customCode)
        # Indices in the int8 file of the values that the step reads.
        places = iter(i for i in map(int, step.integer.inputs) if i in self.pair.values)
        operator.inputs = []
        for place in map(int, found.inputs):
            if place < 0:
                operator.inputs.append(place)
            elif not in_float and place in self.pair.values:
                operator.inputs.append(self.as_in(self.pair.values[place], place))
            elif in_float and place in step.reads:
                where = next(places)
                operator.inputs.append(self._rounded(place, where) if rounded else self.in_float(place))
            else:
                operator.inputs.append(self.tensor(source, place))
        operator.outputs = [self.tensor(source, int(place)) for place in found.outputs]
        self.graph.operators.append(operator)
        for value, tensor in zip(step.writes, operator.outputs, strict=True):
            self.given[value] = [tensor]

    def in_float(self, value: int) -> int:
        """Returns a tensor with a value in float."""
        if not self._is_float(value):
            return self.given[value][0]
        for tensor in self.given[value]:
            if self.graph.tensors[tensor].type == schema.TensorType.FLOAT32:
                return tensor
        wanted = self.tensor(self.floating, value)
        self._pass(self.given[value][0], wanted)
        self.given[value].append(wanted)
        return wanted

    def as_in(self, value: int, place: int) -> int:
        """Returns a tensor with a value in the type that it has in the int8 file, at the index `place`."""
        if not self._is_float(value):
            return self.given[value][0]
        wanted = self.tensor(self.integer, place)
        if wanted in self.given[value]:
            return wanted
        if self.graph.tensors[wanted].type == schema.TensorType.FLOAT32:
            return self.in_float(value)
        self._pass(self.given[value][0], wanted)
        self.given[value].append(wanted)
        return wanted

    def _rounded(self, value: int, place: int) -> int:
        """Returns a float tensor with a value after rounding to 8 bits."""
        held = self.as_in(value, place)
        if not self._is_float(value) or self.graph.tensors[held].type == schema.TensorType.FLOAT32:
            return held
        tensor = copy.copy(self.floating.subgraphs[0].tensors[value])
        tensor.buffer = 0
        self.graph.tensors.append(tensor)
        self._pass(held, len(self.graph.tensors) - 1)
        return len(self.graph.tensors) - 1

    def _is_float(self, value: int) -> bool:
        """Tells whether a value is quantized in the int8 file; booleans and counts are the same in both files."""
        return self.floating.subgraphs[0].tensors[value].type == schema.TensorType.FLOAT32

    def _pass(self, start: int, end: int) -> None:
        types = [self.graph.tensors[tensor].type for tensor in (start, end)]
        operator = schema.OperatorT()
        if types[1] == schema.TensorType.FLOAT32:
            operator.opcodeIndex = self._builtin("DEQUANTIZE", _DEQUANTIZE_VERSIONS.get(types[0], 2))
            operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
            operator.builtinOptions = schema.DequantizeOptionsT()
        else:
            version = 1 if types[0] == schema.TensorType.FLOAT32 else _REQUANTIZE_VERSION
            operator.opcodeIndex = self._builtin("QUANTIZE", version)
            operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
            operator.builtinOptions = schema.QuantizeOptionsT()
        operator.inputs, operator.outputs = [start], [end]
        self.graph.operators.append(operator)

    def _builtin(self, name: str, version: int) -> int:
        code = getattr(schema.BuiltinOperator, name)
        return self._code(code, code, version, None)

    def _code(self, builtin: int, deprecated: int, version: int, custom: bytes | None) -> int:
        key = (builtin, deprecated, version, custom)
        if key not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version, code.customCode = key
            self._codes[key] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self._codes[key]


def _name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    code = model.operatorCodes[operator.opcodeIndex]
    return _OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]


def _activations(
    model: schema.ModelT, operator: schema.OperatorT, values: dict[int, int] | None = None
) -> tuple[int, ...]:
    """Lists the values that an operator reads, without constants."""
    tensors = model.subgraphs[0].tensors
    places = [i for i in map(int, operator.inputs) if i >= 0 and model.buffers[tensors[i].buffer].data is None]
    # A value that was never computed does not exist in the float file: -1 matches nothing there.
    return tuple(places) if values is None else tuple(values.get(i, -1) for i in places)


def _is_rounded(graph: schema.SubGraphT, operator: schema.OperatorT) -> bool:
    written = graph.tensors[int(operator.outputs[0])]
    scale = written.quantization.scale if written.quantization is not None else None
    return written.type != schema.TensorType.FLOAT32 and scale is not None and len(scale) > 0


def _shapes(graph: schema.SubGraphT, operator: schema.OperatorT) -> list[tuple[int, ...]]:
    return [tuple(map(int, graph.tensors[int(i)].shape)) for i in operator.outputs]
