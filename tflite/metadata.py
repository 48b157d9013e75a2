# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite Metadata: what an app must know of an image classifier, inside its .tflite file.

The Task Library, MediaPipe and Android Studio read from it what the pixels are scaled by and what the classes
are called. It is a flatbuffer of its own, in the model's metadata under the name `TFLITE_METADATA`, and a
`labels.txt` in a zip archive behind the model (see associated_files.py). No tflite-support is needed: the few
tables are written and read here by the slot numbers below.

Normalization is that of the float model, (pixel - mean) / std on pixels 0..255, for quantized files as well
("Quantized models share the same normalization parameters as their corresponding float models"); a model that
takes pixels as they come has mean 0 and std 1. The Task Library and MediaPipe want colour images (three
channels) as uint8 or float32: int8 they refuse, whatever the metadata.

Source: tensorflow_lite_support/metadata/metadata_schema.fbs (semantic version 1.0.0 is all that is used);
https://ai.google.dev/edge/litert/conversion/tensorflow/metadata
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.table import Table

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.associated_files import append_files, split_files
from learn2compress.tflite.model_file import Tensor, read_model
from learn2compress.tflite.packing import Recorder, pack
from learn2compress.tflite.schema import MALFORMED, CheckedBytes, buffer_content, corrupt, unpack

ENTRY = b"TFLITE_METADATA"
IDENTIFIER = b"M001"
LABELS_FILE = "labels.txt"
_PARSER_VERSION = "1.0.0"

# The fields of each table in the order of the schema, which is their slot in a vtable. A union takes two
# slots, the first for its type. Fields after the last one named are never written.
_SLOTS = {
    "ModelMetadata": (
        *("name", "description", "version", "subgraph_metadata", "author", "license"),
        *("associated_files", "min_parser_version"),
    ),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        *("name", "description", "dimension_names", "content", "process_units", "stats"),
        *("associated_files",),
    ),
    "Content": ("content_properties_type", "content_properties"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space",),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "AssociatedFile": ("name", "description", "type"),
}
_FEATURE, _IMAGE = 1, 2  # union ContentProperties
_NORMALIZATION = 1  # union ProcessUnitOptions
_AXIS_LABELS = 2  # enum AssociatedFileType
_COLOR_SPACES = {3: 1, 1: 2}  # enum ColorSpaceType, by channels: RGB, GRAYSCALE


@dataclass(frozen=True)
class ModelMetadata:
    """What a file says of itself. Texts it does not have are empty; so are `mean`, `std` and `labels`."""

    name: str
    description: str
    version: str
    author: str
    license: str
    input_name: str
    output_name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]
    min_parser_version: str


def write_metadata(
    data: bytes,
    *,
    name: str,
    description: str,
    labels: Sequence[str],
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    version: str = "",
    author: str = "",
    license: str = "",
    output_name: str = "probability",
    file: str = "the model",
) -> bytes:
    """Returns an image classifier's .tflite file with metadata and labels, in place of those it may have had.

    Args:
        data: the file; other files appended to it are kept.
        name, description, version, author, license: of the model, for its users.
        labels: the classes, in the order of the model's output.
        mean, std: the float model takes (pixel - mean) / std of pixels 0..255; one value, or one a channel.
        output_name: what an app calls the output, such as `probability` or `logits`.
        file: what errors call the model.

    Raises:
        ModelFileError: the bytes are no complete image classifier, or labels or normalization do not fit it.
    """
    model_file = read_model(data, file=file)
    channels = _channels(model_file.input, file)
    _check_labels(labels, model_file.output, file)
    _check_normalization(mean, std, channels, file)
    graph = {
        "input_tensor_metadata": [("TensorMetadata", _image_tensor(channels, mean, std))],
        "output_tensor_metadata": [("TensorMetadata", _scores_tensor(output_name))],
    }
    about = {
        **{"name": name, "description": description, "version": version},
        **{"author": author, "license": license},
    }
    recorder = Recorder()
    root = _build(
        recorder,
        "ModelMetadata",
        {
            **{field: text for field, text in about.items() if text},
            "subgraph_metadata": [("SubGraphMetadata", graph)],
            "min_parser_version": _PARSER_VERSION,
        },
    )
    flatbuffer, files = split_files(data)
    model = unpack(flatbuffer, file=file)
    _put(model, recorder.layout(root, IDENTIFIER))
    files[LABELS_FILE] = ("\n".join(labels) + "\n").encode()
    return append_files(pack(model), files)


def read_metadata(data: bytes, *, file: str = "the model") -> ModelMetadata | None:
    """Returns the metadata of a .tflite file, or None if it has none.

    Raises:
        ModelFileError: the file is no complete .tflite file, its metadata are damaged or of another format,
            or the labels they name are not in the file.
    """
    model = unpack(data, file=file)
    try:
        entry = next((entry for entry in model.metadata or [] if entry.name == ENTRY), None)
        if entry is None:
            return None
        content = buffer_content(model.buffers[entry.buffer], data)
        packed = CheckedBytes(b"" if content is None else content.tobytes())
        if packed[4:8] != IDENTIFIER:
            raise ValueError(f"its metadata are of the format {packed[4:8]!r}, not {IDENTIFIER!r}")
        root = _Reader.root("ModelMetadata", packed)
        graph = next(iter(root.tables("subgraph_metadata", "SubGraphMetadata")), None)
        inputs = graph.tables("input_tensor_metadata", "TensorMetadata") if graph else []
        outputs = graph.tables("output_tensor_metadata", "TensorMetadata") if graph else []
        mean, std = _read_normalization(inputs[0]) if inputs else ((), ())
        return ModelMetadata(
            name=root.text("name"),
            description=root.text("description"),
            version=root.text("version"),
            author=root.text("author"),
            license=root.text("license"),
            input_name=inputs[0].text("name") if inputs else "",
            output_name=outputs[0].text("name") if outputs else "",
            mean=mean,
            std=std,
            labels=_read_labels(outputs[0], data) if outputs else (),
            min_parser_version=root.text("min_parser_version"),
        )
    except MALFORMED as error:
        raise corrupt(file, f"its metadata cannot be read: {error}") from error


def _channels(tensor: Tensor, file: str) -> int:
    if len(tensor.shape) != 4 or tensor.shape[3] not in _COLOR_SPACES:
        raise ModelFileError(
            "A model with image metadata must take images [1, height, width, 1 or 3]; got the input "
            f"{list(tensor.shape)} of {file}. Use an image classifier."
        )
    return tensor.shape[3]


def _check_labels(labels: Sequence[str], output: Tensor, file: str) -> None:
    classes = output.shape[-1] if output.shape else 0
    if len(labels) != classes:
        raise ModelFileError(
            f"Labels must be as many as the model's classes; got {len(labels)} labels for {classes} classes "
            f"of {file}. Name each class once, in the order of the output."
        )
    for label in labels:
        if not label.strip() or "\n" in label or "\r" in label:
            raise ModelFileError(
                f"A label must be one line that is not empty; got {label!r} for {file}. Rename the class."
            )


def _check_normalization(mean: Sequence[float], std: Sequence[float], channels: int, file: str) -> None:
    fits = len(mean) == len(std) and len(mean) in (1, channels)
    if not fits or not np.all(np.isfinite([*mean, *std])) or 0 in std:
        raise ModelFileError(
            f"A normalization must have one mean and std, or one a channel ({channels}), with std not 0; got "
            f"mean {list(mean)} and std {list(std)} for {file}. Correct the model's scaling."
        )


def _image_tensor(channels: int, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    properties = ("ImageProperties", {"color_space": _COLOR_SPACES[channels]})
    options = ("NormalizationOptions", {"mean": np.array(mean, np.float32), "std": np.array(std, np.float32)})
    return {
        "name": "image",
        "description": "The image to classify.",
        "content": ("Content", {"content_properties_type": _IMAGE, "content_properties": properties}),
        "process_units": [("ProcessUnit", {"options_type": _NORMALIZATION, "options": options})],
    }


def _scores_tensor(name: str) -> dict[str, Any]:
    properties = ("FeatureProperties", {})
    labels = {"name": LABELS_FILE, "description": "The classes, one a line.", "type": _AXIS_LABELS}
    return {
        "name": name,
        "description": "A score for each class.",
        "content": ("Content", {"content_properties_type": _FEATURE, "content_properties": properties}),
        "associated_files": [("AssociatedFile", labels)],
    }


def _build(builder: flatbuffers.Builder, table: str, fields: dict[str, Any]) -> int:
    """Writes a table, children first: str as a string, a pair as a table, a list as tables, int as a byte."""
    slots = {}
    for field, value in fields.items():
        if isinstance(value, str):
            slots[field] = builder.CreateString(value)
        elif isinstance(value, np.ndarray):
            slots[field] = builder.CreateNumpyVector(value)
        elif isinstance(value, tuple):
            slots[field] = _build(builder, *value)
        elif isinstance(value, list):
            children = [_build(builder, *child) for child in value]
            builder.StartVector(4, len(children), 4)
            for child in reversed(children):
                builder.PrependUOffsetTRelative(child)
            slots[field] = builder.EndVector()
    builder.StartObject(len(_SLOTS[table]))
    for field, value in fields.items():
        slot = _SLOTS[table].index(field)
        if field in slots:
            builder.PrependUOffsetTRelativeSlot(slot, slots[field], 0)
        else:
            builder.PrependUint8Slot(slot, value, 0)
    return builder.EndObject()


def _put(model: schema.ModelT, metadata: bytes) -> None:
    content = schema.BufferT(data=np.frombuffer(metadata, np.uint8))
    for entry in model.metadata or []:
        if entry.name == ENTRY:
            model.buffers[entry.buffer] = content
            return
    model.buffers.append(content)
    model.metadata = [*(model.metadata or []), schema.MetadataT(name=ENTRY, buffer=len(model.buffers) - 1)]


def _read_normalization(image: "_Reader") -> tuple[tuple[float, ...], tuple[float, ...]]:
    for unit in image.tables("process_units", "ProcessUnit"):
        if unit.byte("options_type") == _NORMALIZATION:
            options = unit.table("options", "NormalizationOptions")
            if options is not None:
                return options.floats("mean"), options.floats("std")
    return (), ()


def _read_labels(scores: "_Reader", data: bytes) -> tuple[str, ...]:
    for described in scores.tables("associated_files", "AssociatedFile"):
        if described.byte("type") == _AXIS_LABELS:
            _, files = split_files(data)
            name = described.text("name")
            if name not in files:
                raise ValueError(f"they name the labels {name!r}, which are not packed into it")
            return tuple(files[name].decode().splitlines())
    return ()


class _Reader:
    """A table of the metadata, read by field name."""

    def __init__(self, table: str, content: bytes, position: int) -> None:
        self._slots = _SLOTS[table]
        self._table = Table(content, position)

    @classmethod
    def root(cls, table: str, content: bytes) -> "_Reader":
        return cls(table, content, int.from_bytes(content[0:4], "little"))

    def _offset(self, field: str) -> int:
        return self._table.Offset(4 + 2 * self._slots.index(field))

    def text(self, field: str) -> str:
        offset = self._offset(field)
        return self._table.String(offset + self._table.Pos).decode() if offset else ""

    def byte(self, field: str) -> int:
        offset = self._offset(field)
        return self._table.Get(flatbuffers.number_types.Uint8Flags, offset + self._table.Pos) if offset else 0

    def floats(self, field: str) -> tuple[float, ...]:
        offset = self._offset(field)
        flags = flatbuffers.number_types.Float32Flags
        return tuple(map(float, self._table.GetVectorAsNumpy(flags, offset))) if offset else ()

    def table(self, field: str, kind: str) -> "_Reader | None":
        offset = self._offset(field)
        if not offset:
            return None
        return _Reader(kind, self._table.Bytes, self._table.Indirect(offset + self._table.Pos))

    def tables(self, field: str, kind: str) -> list["_Reader"]:
        offset = self._offset(field)
        if not offset:
            return []
        start, count = self._table.Vector(offset), self._table.VectorLen(offset)
        return [_Reader(kind, self._table.Bytes, self._table.Indirect(start + 4 * i)) for i in range(count)]
