# SPDX-License-Identifier: Apache-2.0
"""Makes a .tflite file smaller without touching what it computes: every output stays the same, bit for bit.

Of a small int8 model a third is not weights: tensor names a line long, ranges nobody reads, one empty buffer
per tensor, the same vectors of zero points again and again. What is done about it keeps to the format of
2018, so that runtimes (tried: TensorFlow 1.14 to 2.21, LiteRT), flatbuffer verifiers, the Task Library and
MediaPipe accept the result:

- Names of inner tensors go; those of inputs, outputs and signatures stay. `name` is optional ("for
  debugging"), and readers take its absence for an empty name.
- `quantization.min` and `.max` go: they record calibration, kernels and delegates use scale and zero point.
  Empty quantization tables go.
- Tensors that hold no constant use buffer 0, which the format keeps empty for that; constants of equal
  content share a buffer; other buffers go.
- Operator codes nothing uses go; equal ones become one.
- The converter's own description and the metadata entries `min_runtime_version` and `CONVERSION_METADATA`,
  which say how the file was made, go; all other metadata (and files appended to the model) stay.
- Equal tables, vectors and strings are stored once, and padding is filled (see packing.py). This makes the
  per-channel zero points, 8 bytes a channel for each kernel and each bias, almost free.

What would save more and is not done, because some reader does not take it:

- A single zero point for many scales: refused ("... 1 zero_point values and 16 scale values. Must have same
  number").
- No zero points at all: refused ("Quantization parameters has non-null scale but null zero_point").
- No quantization on int32 biases: a FULLY_CONNECTED then fails to prepare ("scale_diff / output_scale <= 0.02
  was not true"), and delegates (GPU, NNAPI) read the scales of all biases.
- No alignment of constants: the schema asks for 16 bytes.
- Leaving out all-zero biases: optional for the operator, but not for all delegates.
"""

from ai_edge_litert import schema_py_generated as schema

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.associated_files import append_files, split_files
from learn2compress.tflite.model_file import read_model
from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import corrupt, unpack

_DISPENSABLE_METADATA = frozenset({b"min_runtime_version", b"CONVERSION_METADATA"})


def compact(data: bytes, *, keep_names: bool = False, file: str = "the model") -> bytes:
    """Returns a .tflite file that is smaller and predicts the same, bit for bit.

    Args:
        data: the file; files appended to it are kept.
        keep_names: keep the names of inner tensors, for somebody who wants to look into the file.
        file: what errors call it.

    Raises:
        ModelFileError: the bytes are no complete .tflite file, or keep weights outside their flatbuffer.
    """
    read_model(data, file=file)
    flatbuffer, files = split_files(data)
    model = unpack(flatbuffer, file=file)
    operators = [operator for subgraph in model.subgraphs for operator in subgraph.operators or []]
    outside = [buffer for buffer in model.buffers if buffer.data is None and buffer.offset > 1]
    if outside or model.externalBuffers or any(operator.largeCustomOptionsSize for operator in operators):
        raise ModelFileError(
            f"A file to compact must keep all it needs in its flatbuffer; got {file}, which refers to data "
            "outside of it. Leave it as it is."
        )
    _strip(model, keep_names)
    _share_operator_codes(model)
    _share_buffers(model, file)
    return append_files(pack(model), files)


def _strip(model: schema.ModelT, keep_names: bool) -> None:
    model.description = None
    kept = [entry for entry in model.metadata or [] if entry.name not in _DISPENSABLE_METADATA]
    model.metadata = kept or None
    for subgraph in model.subgraphs or []:
        ends = {int(i) for end in (subgraph.inputs, subgraph.outputs) if end is not None for i in end}
        for index, tensor in enumerate(subgraph.tensors or []):
            if index not in ends and not keep_names:
                tensor.name = None
            tensor.quantization = _without_ranges(tensor.quantization)


def _without_ranges(found: schema.QuantizationParametersT | None) -> schema.QuantizationParametersT | None:
    if found is None:
        return None
    found.min = found.max = None
    # Without a scale and without a custom scheme a tensor is not quantized: the table says nothing.
    quantized = found.scale is not None and len(found.scale) > 0
    return found if quantized or found.details is not None else None


def _share_operator_codes(model: schema.ModelT) -> None:
    codes: list[schema.OperatorCodeT] = []
    new: dict[tuple[object, ...], int] = {}
    for subgraph in model.subgraphs or []:
        for operator in subgraph.operators or []:
            code = model.operatorCodes[operator.opcodeIndex]
            key = (code.deprecatedBuiltinCode, code.builtinCode, code.version, code.customCode)
            if key not in new:
                new[key] = len(codes)
                codes.append(code)
            operator.opcodeIndex = new[key]
    model.operatorCodes = codes


def _share_buffers(model: schema.ModelT, file: str) -> None:
    old, buffers, new = model.buffers, [schema.BufferT()], {}

    def moved(index: int) -> int:
        if index >= len(old):
            raise corrupt(file, f"its metadata refer to buffer {index} of {len(old)}")
        content = old[index].data
        if content is None:
            return 0
        # A buffer that is there and empty is a constant without elements, and remains one.
        key = content.tobytes()
        if key not in new:
            new[key] = len(buffers)
            buffers.append(schema.BufferT(data=content))
        return new[key]

    for subgraph in model.subgraphs or []:
        for tensor in subgraph.tensors or []:
            tensor.buffer = moved(tensor.buffer)
    for entry in model.metadata or []:
        entry.buffer = moved(entry.buffer)
    # The predecessor of `metadata`, an index of its buffers without names.
    if model.metadataBuffer is not None:
        model.metadataBuffer = [entry.buffer for entry in model.metadata or []]
    model.buffers = buffers
