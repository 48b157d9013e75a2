# SPDX-License-Identifier: Apache-2.0
"""Writes TensorFlow Lite Metadata into a file: the description, labels and normalization that an app reads.

tflite/metadata.py describes the format and reads them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.image_input import read_layout
from learn2compress.tflite.metadata import AXIS_LABELS, ENTRY, IDENTIFIER, LABELS_FILE, NORMALIZATION, SLOTS
from learn2compress.tflite.model_file import Tensor
from learn2compress.tflite.packing import Recorder
from learn2compress.tflite.parsed_file import ParsedFile

_PARSER_VERSION = "1.0.0"
_FEATURE, _IMAGE = 1, 2  # union ContentProperties
_COLOR_SPACES = {3: 1, 1: 2}  # enum ColorSpaceType, by channels: RGB, GRAYSCALE


def write_metadata(
    parsed: ParsedFile,
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
    file: str | None = None,
) -> ParsedFile:
    """Writes metadata and labels into an image classifier, and replaces existing ones.

    Args:
        parsed: The file; other files appended to it are kept.
        name: Name of the model.
        description: Description of the model.
        labels: Names of the classes, in the order of the model's output.
        mean: Mean in the input of the float model, (pixel - mean) / std of pixels 0..255: one value, or one a channel.
        std: Standard deviation in the same formula: one value, or one a channel.
        version: Version of the model.
        author: Author of the model.
        license: License of the model.
        output_name: Name of the output for an app, such as `probability` or `logits`.
        file: Name of the file in error messages; default: that of the parsed file.

    Returns:
        The same file.

    Raises:
        ModelFileError: The file is not an image classifier, or labels or normalization do not match it.
    """
    file = file or parsed.file
    channels = _channels(parsed.facts.input, file)
    _check_normalization(mean, std, channels, file)
    about = {
        **{"name": name, "description": description, "version": version},
        **{"author": author, "license": license},
    }
    return put_metadata(parsed, about, _image_tensor(channels, mean, std), labels, output_name, _PARSER_VERSION, file)


def put_metadata(
    parsed: ParsedFile,
    about: Mapping[str, str],
    input_tensor: Mapping[str, Any],
    labels: Sequence[str],
    output_name: str,
    parser_version: str,
    file: str,
) -> ParsedFile:
    """Writes metadata with the description of the input into a classifier, and replaces existing ones.

    Args:
        parsed: The file; other files appended to it are kept.
        about: Texts of the table ModelMetadata; empty ones are left out.
        input_tensor: Fields of the input's table TensorMetadata.
        labels: Names of the classes, in the order of the model's output.
        output_name: Name of the output for an app.
        parser_version: Least version of a reader of the metadata.
        file: Name of the file in error messages.

    Returns:
        The same file.

    Raises:
        ModelFileError: The labels do not match the output.
    """
    _check_labels(labels, parsed.facts.output, file)
    graph = {
        "input_tensor_metadata": [("TensorMetadata", dict(input_tensor))],
        "output_tensor_metadata": [("TensorMetadata", _scores_tensor(output_name))],
    }
    recorder = Recorder()
    root = _build(
        recorder,
        "ModelMetadata",
        {
            **{field: text for field, text in about.items() if text},
            "subgraph_metadata": [("SubGraphMetadata", graph)],
            "min_parser_version": parser_version,
        },
    )
    _put(parsed.edit(), recorder.layout(root, IDENTIFIER))
    parsed.files[LABELS_FILE] = ("\n".join(labels) + "\n").encode()
    return parsed


def _channels(tensor: Tensor, file: str) -> int:
    layout = read_layout(tensor.shape)
    if layout is None or layout.channels not in _COLOR_SPACES:
        raise ModelFileError(
            "A model with image metadata must take images [1, height, width, 1 or 3]; got the input "
            f"{list(tensor.shape)} of {file}. Use an image classifier."
        )
    return layout.channels


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
        "process_units": [("ProcessUnit", {"options_type": NORMALIZATION, "options": options})],
    }


def _scores_tensor(name: str) -> dict[str, Any]:
    properties: tuple[str, dict[str, Any]] = ("FeatureProperties", {})
    labels = {"name": LABELS_FILE, "description": "The classes, one a line.", "type": AXIS_LABELS}
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
    builder.StartObject(len(SLOTS[table]))
    for field, value in fields.items():
        slot = SLOTS[table].index(field)
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
