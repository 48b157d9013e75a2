# SPDX-License-Identifier: Apache-2.0
"""Reads TensorFlow Lite Metadata: the description of a classifier for an app, inside its .tflite file.

The Task Library, MediaPipe and Android Studio read the scaling of the pixels, or the splitting of a text into words and
the ids of the words, and the names of the classes from it. The
metadata are a separate flatbuffer, in the model's metadata under the name `TFLITE_METADATA`, and a `labels.txt` in a
zip archive behind the model (see associated_files.py). tflite-support is not needed: the few tables are read here, and
written in transformations/metadata.py, by the slot numbers below.

The normalization is that of the float model, (pixel - mean) / std on pixels 0..255, also for quantized files
("Quantized models share the same normalization parameters as their corresponding float models"); a model with pixels as
input has mean 0 and std 1. The Task Library and MediaPipe require colour images (three channels) as uint8 or float32;
they refuse int8 input regardless of the metadata.

Source: tensorflow_lite_support/metadata/metadata_schema.fbs (only semantic version 1.0.0 is used);
https://ai.google.dev/edge/litert/conversion/tensorflow/metadata
"""

from dataclasses import dataclass

import flatbuffers
from flatbuffers.table import Table

from learn2compress.tflite.parsed_file import ParsedFile, parse_file
from learn2compress.tflite.schema import MALFORMED, CheckedBytes, buffer_content, corrupt

ENTRY = b"TFLITE_METADATA"
IDENTIFIER = b"M001"
LABELS_FILE = "labels.txt"

# Fields of each table in the order of the schema, which determines their slots in a vtable. A union has two slots, the
# first for its type. Fields after the last one listed are never written.
SLOTS = {
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
    "RegexTokenizerOptions": ("delim_regex_pattern", "vocab_file"),
    "AssociatedFile": ("name", "description", "type"),
}
NORMALIZATION, REGEX_TOKENIZER = 1, 6  # union ProcessUnitOptions
# enum AssociatedFileType
UNKNOWN_FILE, AXIS_LABELS, VOCABULARY = 0, 2, 5
_ENTRY_MARK = b"PK\x03\x04"  # of a file in a zip archive
_TOKENIZERS = {4: "BertTokenizer", 5: "SentencePieceTokenizer", REGEX_TOKENIZER: "RegexTokenizer"}


@dataclass(frozen=True)
class Tokenizer:
    """How an app splits a text.

    Attributes:
        kind: "RegexTokenizer", "BertTokenizer" or "SentencePieceTokenizer".
        pattern: Delimiter of the words, a regular expression; empty for other kinds.
        vocabulary: Name of the associated file with the ids of the words; empty if there is none.
    """

    kind: str
    pattern: str
    vocabulary: str


@dataclass(frozen=True)
class ModelMetadata:
    """Metadata of a file. Texts, `mean`, `std` and `labels` that the file does not have are empty.

    `lost_labels` is the name of the labels where another tool has left them out when it wrote the file anew.
    """

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
    lost_labels: str = ""
    tokenizer: Tokenizer | None = None


def read_metadata(
    source: bytes | ParsedFile, *, subgraph: int = 0, output: int = 0, file: str = "the model"
) -> ModelMetadata | None:
    """Reads the metadata of a .tflite file.

    Args:
        source: The file, parsed or as bytes.
        subgraph: Index of the subgraph whose inputs and outputs are described.
        output: Index of the output that is described, of several.
        file: Name of the file in error messages.

    Returns:
        The metadata; None if the file has none.

    Raises:
        ModelFileError: The file is not a complete .tflite file, its metadata are damaged or of another format, or the
            archive with their labels is cut short.
    """
    parsed = parse_file(source, file=file)
    model = parsed.objects
    try:
        entry = next((entry for entry in model.metadata or [] if entry.name == ENTRY), None)
        if entry is None:
            return None
        content = buffer_content(model.buffers[entry.buffer], parsed.source)
        packed = CheckedBytes(b"" if content is None else content.tobytes())
        if packed[4:8] != IDENTIFIER:
            raise ValueError(f"its metadata are of the format {packed[4:8]!r}, not {IDENTIFIER!r}")
        root = _Reader.root("ModelMetadata", packed)
        graphs = root.tables("subgraph_metadata", "SubGraphMetadata")
        graph = graphs[subgraph] if subgraph < len(graphs) else None
        inputs = graph.tables("input_tensor_metadata", "TensorMetadata") if graph else []
        outputs = graph.tables("output_tensor_metadata", "TensorMetadata")[output:] if graph else []
        mean, std = _read_normalization(inputs[0]) if inputs else ((), ())
        labels, lost = _read_labels(outputs[0], parsed) if outputs else ((), "")
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
            labels=labels,
            min_parser_version=root.text("min_parser_version"),
            lost_labels=lost,
            tokenizer=_read_tokenizer(inputs[0]) if inputs else None,
        )
    except MALFORMED as error:
        raise corrupt(file, f"its metadata cannot be read: {error}") from error


def _read_normalization(image: "_Reader") -> tuple[tuple[float, ...], tuple[float, ...]]:
    for unit in image.tables("process_units", "ProcessUnit"):
        if unit.byte("options_type") == NORMALIZATION:
            options = unit.table("options", "NormalizationOptions")
            if options is not None:
                return options.floats("mean"), options.floats("std")
    return (), ()


def _read_tokenizer(text: "_Reader") -> Tokenizer | None:
    for unit in text.tables("process_units", "ProcessUnit"):
        kind = _TOKENIZERS.get(unit.byte("options_type"))
        if kind is not None:
            options = unit.table("options", "RegexTokenizerOptions") if kind == "RegexTokenizer" else None
            files = options.tables("vocab_file", "AssociatedFile") if options else []
            pattern = options.text("delim_regex_pattern") if options else ""
            return Tokenizer(kind, pattern, files[0].text("name") if files else "")
    return None


def _read_labels(scores: "_Reader", parsed: ParsedFile) -> tuple[tuple[str, ...], str]:
    """Returns the labels, and the name of those that are missing."""
    for described in scores.tables("associated_files", "AssociatedFile"):
        if described.byte("type") == AXIS_LABELS:
            name = described.text("name")
            if name in parsed.files:
                return tuple(parsed.files[name].decode().splitlines()), ""
            # An archive begins with the header of a file, which ends in its name.
            begun = parsed.source.find(_ENTRY_MARK)
            if begun >= 0 and name.encode() in parsed.source[begun:]:
                raise ValueError(f"the archive with the labels {name!r} is cut short")
            return (), name
    return (), ""


class _Reader:
    """A table of the metadata, read by field name."""

    def __init__(self, table: str, content: bytes, position: int) -> None:
        self._slots = SLOTS[table]
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
