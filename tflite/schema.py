# SPDX-License-Identifier: Apache-2.0
"""Unpacks the bytes of a .tflite file to the schema's objects, with every offset checked.

The classes are those that ai-edge-litert generates from the schema; TensorFlow is not imported. The C++ runtime does
not check a file's offsets, so that a truncated file may crash the process: here it is an error that names the file.

Source: tensorflow/lite/schema/schema.fbs (schema version 3).
"""

import struct
from typing import SupportsIndex, overload

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from learn2compress.schemas.errors import ModelFileError

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3

# Errors of the generated readers on invalid bytes.
MALFORMED = (
    *(struct.error, ValueError, TypeError, IndexError, KeyError),
    *(AttributeError, OverflowError, MemoryError),
)


def unpack(data: bytes, *, file: str = "the model") -> schema.ModelT:
    """Unpacks the schema's objects of a .tflite file; arrays in them are read-only views.

    Args:
        data: Bytes of the file; associated files behind the flatbuffer are ignored.
        file: Name of the file in error messages.

    Raises:
        ModelFileError: The bytes are truncated or not a .tflite file.
    """
    if len(data) < 8 or bytes(data[4:8]) != IDENTIFIER:
        raise corrupt(file, f"its bytes 4 to 7 are {bytes(data[4:8])!r}, not {IDENTIFIER!r}")
    try:
        model = schema.ModelT.InitFromPackedBuf(CheckedBytes(data), 0)
    except MALFORMED as error:
        raise corrupt(file, f"it is cut short or damaged: {error}") from error
    if model.version != SCHEMA_VERSION:
        raise corrupt(file, f"its schema version is {model.version}, not {SCHEMA_VERSION}")
    return model


def buffer_content(buffer: schema.BufferT, data: bytes) -> np.ndarray | None:
    """Returns the content of a buffer.

    Args:
        buffer: Buffer of the schema.
        data: Bytes of the file, in which files over 2 GB keep their buffers behind the flatbuffer.

    Returns:
        [bytes] uint8; None if the buffer is empty.
    """
    if buffer.data is not None:
        return buffer.data
    if buffer.offset > 1:
        return np.frombuffer(data, np.uint8, count=buffer.size, offset=buffer.offset)
    return None


def corrupt(file: str, reason: str) -> ModelFileError:
    """Creates the error for a file that is not a complete model."""
    return ModelFileError(
        f"A model file must be a complete .tflite file; got {file}, and {reason}. Convert or download it again."
    )


class CheckedBytes(bytes):
    """Bytes whose slices raise an error instead of being shorter than requested, so that strings are checked too."""

    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    def __getitem__(self, key: SupportsIndex | slice) -> int | bytes:
        if isinstance(key, slice) and not 0 <= key.start <= key.stop <= len(self):
            raise IndexError(f"bytes {key.start} to {key.stop} of {len(self)}")
        return super().__getitem__(key)
