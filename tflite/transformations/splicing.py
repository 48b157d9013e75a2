# SPDX-License-Identifier: Apache-2.0
"""One .tflite file of two: some operators of a student's int8 file, the others of its float file.

Both come from one graph by one converter, so that each operator of the one has its like in the other. Where a value
passes from an operator in float to one in 8 bits, or back, a QUANTIZE or a DEQUANTIZE does it with the int8 file's own
scale. Thus an operator can be looked at by itself in 8 bits while all else is in float, and a file can keep a few of
its operators in float: with the kernels, ranges and rounding of the file that ships, and without converting again.
"""

import copy
from collections.abc import Collection
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.parsed_file import ParsedFile, parse_file

_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_PASSING = ("QUANTIZE", "DEQUANTIZE")
# Of DEQUANTIZE, by what it reads, and of QUANTIZE where it changes a scale: what older runtimes ask for.
_DEQUANTIZE_VERSIONS = {schema.TensorType.UINT8: 1, schema.TensorType.INT8: 2}
_REQUANTIZE_VERSION = 2


@dataclass(frozen=True)
class Step:
    """An operator that both files have.

    Attributes:
        op: Its name, such as CONV_2D.
        integer, floating: It, in either file.
        place: Of `floating` among the operators of its file.
        reads, writes: Values; a value is called by its tensor's index in the float file.
        rounded: Whether what it writes is in integers with a scale in the int8 file. Truth values and counts are not.
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
    """A student's two files, operator by operator.

    Attributes:
        integer, floating: The two.
        values: What each activation of the int8 file is in the float file, by its tensor's index.
    """

    integer: ParsedFile
    floating: ParsedFile
    steps: tuple[Step, ...]
    values: dict[int, int]

    @property
    def logits(self) -> int:
        """The value that enters the softmax at the end, or the output where there is none."""
        output = int(self.floating.objects.subgraphs[0].outputs[0])
        last = self.steps[-1]
        return last.reads[0] if last.op == "SOFTMAX" and last.writes == (output,) else output

    def readers(self, step: int) -> set[int]:
        """The steps that read what a step writes."""
        written = set(self.steps[step].writes)
        return {index for index, other in enumerate(self.steps) if written & set(other.reads)}

    def written(self, step: int) -> schema.TensorT:
        """What a step writes, as the int8 file has it."""
        return self.integer.objects.subgraphs[0].tensors[int(self.steps[step].integer.outputs[0])]


def pair_files(floating: bytes | ParsedFile, integer: bytes | ParsedFile, *, file: str = "the model") -> Pair:
    """Finds the operators of an int8 file in the float file of the same student.

    Args:
        floating: A float32 file.
        integer: Int8, with any part of it in float.
        file: What errors call the int8 file.

    Raises:
        ModelFileError: They are not of the same graph, or have more than one subgraph.
    """
    files = [parse_file(source, file=file) for source in (floating, integer)]
    pair = [found.objects for found in files]
    if any(len(model.subgraphs) != 1 for model in pair):
        raise ModelFileError(f"{file} must have one subgraph to be compared with its float file; it has control flow.")
    first, second = (model.subgraphs[0] for model in pair)
    values = {int(i): int(f) for i, f in zip(second.inputs, first.inputs, strict=True)}
    left = dict(enumerate(first.operators))
    steps: list[Step] = []
    for operator in second.operators:
        op = _name(pair[1], operator)
        reads = _activations(pair[1], operator, values)
        if op in _PASSING and len(reads) == 1:
            values[int(operator.outputs[0])] = reads[0]
            continue
        shapes = _shapes(second, operator)
        like = next(
            (
                place
                for place, other in left.items()
                if _name(pair[0], other) == op
                and _activations(pair[0], other) == reads
                and _shapes(first, other) == shapes
            ),
            None,
        )
        if like is None:
            raise ModelFileError(
                f"{file} must have the operators of its float file; its {op} at {len(steps)} has no like there."
            )
        other = left.pop(like)
        writes = tuple(int(i) for i in other.outputs)
        values.update(zip((int(i) for i in operator.outputs), writes, strict=True))
        steps.append(Step(op, operator, other, like, reads, writes, _is_rounded(second, operator)))
    if left:
        missing = ", ".join(_name(pair[0], other) for other in left.values())
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
    """Makes one file of two.

    Args:
        pair: The two.
        in_float: The steps to take from the float file, by place; the others are the int8 file's.
        float_ends: Whether input and outputs are floats; else they are the int8 file's.
        rounded: Those of `in_float` that shall read their inputs rounded as in the int8 file.
        outputs: The values to give out; by default what the files give out.

    Returns:
        A file without metadata; it shares constants and scales with the two.
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
    """A model in the making. `given`: the tensors that hold a value so far, the one it was computed in first."""

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
        """Takes a tensor over, once, with what it holds."""
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
        """Adds a step from either file, and what has to pass its inputs to it."""
        source = self.floating if in_float else self.integer
        found = step.floating if in_float else step.integer
        operator = copy.copy(found)
        code = source.operatorCodes[found.opcodeIndex]
        operator.opcodeIndex = self._code(code.builtinCode, code.deprecatedBuiltinCode, code.version, code.customCode)
        # Where the int8 file has each of the values that the step reads.
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
        """A tensor that holds a value as the float file has it."""
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
        """A tensor that holds a value as the int8 file has it at a place."""
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
        """A float tensor that holds what is left of a value after 8 bits."""
        held = self.as_in(value, place)
        if not self._is_float(value) or self.graph.tensors[held].type == schema.TensorType.FLOAT32:
            return held
        tensor = copy.copy(self.floating.subgraphs[0].tensors[value])
        tensor.buffer = 0
        self.graph.tensors.append(tensor)
        self._pass(held, len(self.graph.tensors) - 1)
        return len(self.graph.tensors) - 1

    def _is_float(self, value: int) -> bool:
        """Whether 8 bits concern a value at all: a truth value or a count is the same in both files."""
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
    """The values that an operator reads and that are no constants."""
    tensors = model.subgraphs[0].tensors
    places = [i for i in map(int, operator.inputs) if i >= 0 and model.buffers[tensors[i].buffer].data is None]
    # What was never computed is no value of the float file: -1 has no like there.
    return tuple(places) if values is None else tuple(values.get(i, -1) for i in places)


def _is_rounded(graph: schema.SubGraphT, operator: schema.OperatorT) -> bool:
    written = graph.tensors[int(operator.outputs[0])]
    scale = written.quantization.scale if written.quantization is not None else None
    return written.type != schema.TensorType.FLOAT32 and scale is not None and len(scale) > 0


def _shapes(graph: schema.SubGraphT, operator: schema.OperatorT) -> list[tuple[int, ...]]:
    return [tuple(map(int, graph.tensors[int(i)].shape)) for i in operator.outputs]
