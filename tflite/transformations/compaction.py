# SPDX-License-Identifier: Apache-2.0
"""Makes a .tflite file smaller without changing its outputs, which stay equal bit for bit.

A third of a small int8 model is not weights: long tensor names, unused ranges, an empty buffer for each tensor, and
repeated vectors of zero points. The following changes use only the format of 2018, so that runtimes (tried: TensorFlow
1.14 to 2.21, LiteRT), flatbuffer verifiers, the Task Library and MediaPipe accept the result:

- Names of inner tensors are removed; those of inputs, outputs and signatures are kept. `name` is optional ("for
  debugging"), and readers treat a missing name as an empty one.
- `quantization.min` and `.max` are removed: they record calibration, whereas kernels and delegates use scale and zero
  point. Empty quantization tables are removed.
- Tensors without a constant use buffer 0, which is empty by the format; constants of equal content share a buffer;
other
  buffers are removed.
- Unused operator codes are removed, and equal ones are merged.
- The converter's description and the metadata entries `min_runtime_version` and `CONVERSION_METADATA`, which describe
  how the file was made, are removed; all other metadata (and files appended to the model) are kept.
- Equal tables, vectors and strings are stored once, and padding is filled (see tflite/packing.py). The per-channel zero
  points, 8 bytes a channel for each kernel and each bias, then take almost no space.

The following would save more, but some readers do not accept it:

- A single zero point for many scales: refused ("... 1 zero_point values and 16 scale values. Must have same
  number").
- No zero points at all: refused ("Quantization parameters has non-null scale but null zero_point").
- No quantization on int32 biases: a FULLY_CONNECTED then fails to prepare ("scale_diff / output_scale <= 0.02
  was not true"), and delegates (GPU, NNAPI) read the scales of all biases.
- No alignment of constants: the schema asks for 16 bytes.
- Leaving out all-zero biases: optional for the operator, but not for all delegates.
"""

import copy

from ai_edge_litert import schema_py_generated as schema

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.parsed_file import ParsedFile
from learn2compress.tflite.schema import corrupt

_DISPENSABLE_METADATA = frozenset({b"min_runtime_version", b"CONVERSION_METADATA"})


def compact(parsed: ParsedFile, *, keep_names: bool = False) -> ParsedFile:
    """Makes a file smaller, in place; its outputs stay equal bit for bit.

    Args:
        parsed: The file; files appended to it are kept.
        keep_names: Whether the names of inner tensors are kept, for inspection.

    Returns:
        The same file.

    Raises:
        ModelFileError: The objects are inconsistent, or weights are outside of the flatbuffer.
    """
    model, file = parsed.objects, parsed.file
    # Inconsistent objects are refused: with unchecked indices, another model would be written.
    _ = parsed.facts
    operators = [operator for subgraph in model.subgraphs for operator in subgraph.operators or []]
    outside = [buffer for buffer in model.buffers if buffer.data is None and buffer.offset > 1]
    if outside or model.externalBuffers or any(operator.largeCustomOptionsSize for operator in operators):
        raise ModelFileError(
            f"A file to compact must have all of its data in the flatbuffer; got {file}, which refers to data "
            "outside of it. Leave it as it is."
        )
    parsed.edit()
    _strip(model, keep_names)
    _share_operator_codes(model)
    _share_buffers(model, file)
    return parsed


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
    found = copy.copy(found)  # a spliced file shares it with its source
    found.min = found.max = None
    # Without a scale and without a custom scheme a tensor is not quantized, and the table has no information.
    quantized = found.scale is not None and len(found.scale) > 0
    return found if quantized or found.details is not None else None


def _share_operator_codes(model: schema.ModelT) -> None:
    codes: list[schema.OperatorCodeT] = []
    new: dict[tuple[int, int, int, bytes | None], int] = {}
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
        # A buffer with empty content is a constant without elements, and is kept as one.
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
