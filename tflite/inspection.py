# SPDX-License-Identifier: Apache-2.0
"""Everything that a .tflite file says of itself, in one record: its ends, labels, operators, sizes, memory.

Any .tflite file will do, not only ours. Names of inner tensors are often gone (they cost bytes), so a layer is called
by its place and operator, and by the name of what it writes where there is one.
"""

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.manifests import Record
from learn2compress.tflite.interpreter import activation_bytes, arena_bytes
from learn2compress.tflite.metadata import Tokenizer, read_metadata
from learn2compress.tflite.model_file import ModelFile, Operator, Tensor, mean_sparsity, prove_full_int8, read_bytes
from learn2compress.tflite.parsed_file import ParsedFile, default_signature, parse_file
from learn2compress.tflite.signatures import Signature


class TensorEnd(Record):
    """An input or output. `scale` and `zero_point` are empty if it is not quantized."""

    name: str
    dtype: str
    shape: list[int]  # -1 where a dimension is free
    scale: list[float]
    zero_point: list[int]


class Tokenizing(Record):
    """How an app turns a text into the file's input, by its metadata."""

    kind: str  # RegexTokenizer, BertTokenizer or SentencePieceTokenizer
    pattern: str  # delimiter of the words of a RegexTokenizer
    vocabulary: str  # name of the file with the words
    words: int | None  # number of its lines; None if it is not in the file


class Labelling(Record):
    """What the file's metadata say to an app; `mean` and `std` are what (pixel - mean) / std takes."""

    name: str
    description: str
    output_name: str
    mean: list[float]
    std: list[float]
    labels: list[str]
    lost_labels: str  # name of labels that the metadata name and the file lacks; empty if there are none
    tokenizer: Tokenizing | None = None


class Layer(Record):
    """An operator. What several operators read is counted at the first of them."""

    index: int  # place in its subgraph
    subgraph: int
    op: str
    name: str | None  # of what it writes, if the file still has it
    output_shape: list[int]
    dtype: str  # of what it writes
    weights_dtype: str | None  # of its kernel, or of the first constant it reads
    parameters: int
    macs: int
    weight_bytes: int
    sparsity: float | None  # share of zeros in its kernels


class SignatureCosts(Record):
    """An entry point of the file, with what it reads, gives and costs by itself."""

    name: str
    subgraph: int
    inputs: list[str]
    outputs: list[str]
    parameters: int
    macs: int


class Int8(Record):
    """Whether the file computes in 8-bit integers from end to end, and if not, why."""

    holds: bool
    reasons: list[str]


class Inspection(Record):
    """Of one file."""

    file: str
    sha256: str
    file_bytes: int = Field(serialization_alias="bytes")
    gzip_bytes: int
    inputs: list[TensorEnd]
    outputs: list[TensorEnd]
    signatures: list[SignatureCosts]  # all; the figures of the file are those of the one that is run by default
    metadata: Labelling | None
    quantization: str  # in words
    full_int8: Int8
    parameters: int
    macs: int
    sparsity: float | None
    ops: dict[str, int]
    custom_ops: list[str]  # operators that are not built in; their MACs and numbers cannot be told
    weight_bytes: int  # of all layers; the rest of the file is structure, scales, labels
    activation_bytes: int | None  # the least that can be had at once; see interpreter.activation_bytes
    arena_bytes: int | None  # as the runtime lays it out; see interpreter.arena_bytes
    arena_unknown: str | None  # why the runtime could not say
    files: dict[str, int] = {}  # size of each file that is packed into it
    layers: list[Layer]


class _Arena(NamedTuple):
    bytes: int | None
    unknown: str | None


def inspect_file(path: str | Path) -> Inspection:
    """Reads a .tflite file.

    Raises:
        ModelFileError: It is not there, cut short, no .tflite file, or its metadata are damaged.
    """
    data = read_bytes(path)
    parsed = default_signature(parse_file(data, file=str(path)))
    model = parsed.facts
    proof = prove_full_int8(model)
    metadata = read_metadata(parsed, file=str(path))
    layers = _layers(model)
    arena = _arena(parsed)
    return Inspection(
        file=str(path),
        sha256=hashlib.sha256(data).hexdigest(),
        file_bytes=len(data),
        gzip_bytes=len(gzip.compress(data, compresslevel=9, mtime=0)),
        inputs=[_end(tensor) for tensor in model.inputs],
        outputs=[_end(tensor) for tensor in model.outputs],
        signatures=[_signature(model, signature) for signature in model.signatures],
        metadata=None
        if metadata is None
        else Labelling(
            name=metadata.name,
            description=metadata.description,
            output_name=metadata.output_name,
            mean=list(metadata.mean),
            std=list(metadata.std),
            labels=list(metadata.labels),
            lost_labels=metadata.lost_labels,
            tokenizer=_tokenizing(metadata.tokenizer, parsed),
        ),
        quantization=describe_quantization(model),
        full_int8=Int8(holds=proof.holds, reasons=proof.reasons),
        parameters=model.parameters,
        macs=model.macs,
        sparsity=model.sparsity,
        ops=model.op_counts,
        custom_ops=list(model.custom_operators),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        activation_bytes=activation_bytes(model),
        arena_bytes=arena.bytes,
        arena_unknown=arena.unknown,
        files={name: len(content) for name, content in parsed.files.items()},
        layers=layers,
    )


def _tokenizing(tokenizer: Tokenizer | None, parsed: ParsedFile) -> Tokenizing | None:
    if tokenizer is None:
        return None
    content = parsed.files.get(tokenizer.vocabulary)
    words = None if content is None else len(content.splitlines())
    return Tokenizing(kind=tokenizer.kind, pattern=tokenizer.pattern, vocabulary=tokenizer.vocabulary, words=words)


def _signature(model: ModelFile, signature: Signature) -> SignatureCosts:
    parameters, macs = model.costs_of(signature)
    return SignatureCosts(
        name=signature.name,
        subgraph=signature.subgraph,
        inputs=[name for name, _ in signature.inputs],
        outputs=[name for name, _ in signature.outputs],
        parameters=parameters,
        macs=macs,
    )


def describe_quantization(model: ModelFile) -> str:
    """Says in words how a model's numbers are stored and computed."""
    kernels = [tensor for tensor in model.tensors if tensor.sparsity is not None]
    small = [kernel for kernel in kernels if not kernel.is_float]
    if prove_full_int8(model).holds:
        return f"full int8{_granularity(small)}"
    ends = [tensor.dtype for tensor in (*model.inputs, *model.outputs)]
    between = _in_float(model)
    if between and any(tensor.quantized for tensor in small) and all(dtype in ("int8", "uint8") for dtype in ends):
        return f"{ends[0]}, {between} layer{'s' * (between > 1)} in float{_granularity(small)}"
    if kernels and len(small) == len(kernels):
        computed = [t for t in model.tensors if not t.constant and t.quantized]
        if computed:
            return f"int8 inside, other types at its ends or between{_granularity(small)}"
        return f"dynamic range: int8 weights{_granularity(small)}, float activations"
    if small:
        return f"mixed: {len(small)} of {len(kernels)} kernels are quantized{_granularity(small)}"
    if model.custom_operators and not kernels:
        return f"unknown: computed by {', '.join(model.custom_operators)}"
    halves = [t for t in model.tensors if t.constant and t.dtype in ("float16", "bfloat16")]
    return "none: weights in 16-bit floats" if halves else "none: float32"


def _in_float(model: ModelFile) -> int:
    """The operators that compute in floats, not counting those that only pass from one type to the other."""
    floats = {(tensor.subgraph, tensor.index) for tensor in model.tensors if tensor.is_float}
    return sum(
        operator.name not in ("QUANTIZE", "DEQUANTIZE")
        and any((operator.subgraph, index) in floats for index in operator.outputs)
        for operator in model.operators
    )


def _granularity(kernels: list[Tensor]) -> str:
    if not kernels:
        return ""
    channels = sum(kernel.per_channel for kernel in kernels)
    return f", {channels} of {len(kernels)} kernels by channel"


def _arena(parsed: ParsedFile) -> _Arena:
    try:
        return _Arena(arena_bytes(parsed), None)
    except ModelFileError as error:
        # A file for another runtime (custom operators, say) can be read all the same.
        return _Arena(None, str(error))


def _end(tensor: Tensor) -> TensorEnd:
    return TensorEnd(
        name=_short(tensor) or f"#{tensor.index}",
        dtype=tensor.dtype,
        shape=list(tensor.shape_signature),
        scale=list(tensor.scale),
        zero_point=list(tensor.zero_point),
    )


def _layers(model: ModelFile) -> list[Layer]:
    tensors = {(tensor.subgraph, tensor.index): tensor for tensor in model.tensors}
    seen: set[tuple[int, int]] = set()
    layers = []
    for operator in model.operators:
        places = dict.fromkeys((operator.subgraph, i) for i in operator.inputs if i >= 0)
        constants = [tensors[place] for place in places if tensors[place].constant]
        fresh = [t for t in constants if (t.subgraph, t.index) not in seen]
        seen.update((t.subgraph, t.index) for t in fresh)
        layers.append(_layer(operator, tensors, constants, fresh))
    return layers


def _layer(
    operator: Operator, tensors: dict[tuple[int, int], Tensor], constants: list[Tensor], fresh: list[Tensor]
) -> Layer:
    written = tensors[operator.subgraph, operator.outputs[0]] if operator.outputs else None
    kernels = [t for t in constants if t.sparsity is not None]
    weights = kernels or [t for t in constants if t.parameter]
    return Layer(
        index=operator.index,
        subgraph=operator.subgraph,
        op=operator.name,
        name=_short(written) if written else None,
        output_shape=list(written.shape_signature) if written else [],
        dtype=written.dtype if written else "",
        weights_dtype=weights[0].dtype if weights else None,
        parameters=sum(t.elements for t in fresh if t.parameter),
        macs=operator.macs,
        weight_bytes=sum(t.bytes for t in fresh),
        sparsity=mean_sparsity(constants),
    )


def _short(tensor: Tensor) -> str | None:
    """The last part of a name: a converter names a tensor by all that it was fused from."""
    if tensor.name == f"#{tensor.index}":
        return None
    return next((part for part in reversed(tensor.name.split(";")) if part), tensor.name)
