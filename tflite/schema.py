# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a .tflite file to the schema's own objects, with every offset checked.

The classes are those ai-edge-litert generates from the schema and ships; no TensorFlow is imported. The C++
runtime trusts a file's offsets, so that one cut short may take the process down with it: here it is an error
that names the file.

Source: tensorflow/lite/schema/schema.fbs (schema version 3).
"""

import struct
from typing import SupportsIndex, overload

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from learn2compress.schemas.errors import ModelFileError

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3

# What the generated readers raise on bytes that make no sense.
MALFORMED = (
    *(struct.error, ValueError, TypeError, IndexError, KeyError),
    *(AttributeError, OverflowError, MemoryError),
)


def unpack(data: bytes, *, file: str = "the model") -> schema.ModelT:
    """Returns the schema's objects for a .tflite file; arrays in them are read-only views.

    Args:
        data: the bytes of the file; what follows the flatbuffer (associated files) is ignored.
        file: what errors call it.

    Raises:
        ModelFileError: the bytes are cut short or no .tflite file.
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
    """Returns a buffer's bytes as uint8, or None. Files over 2 GB keep them behind the flatbuffer."""
    if buffer.data is not None:
        return buffer.data
    if buffer.offset > 1:
        return np.frombuffer(data, np.uint8, count=buffer.size, offset=buffer.offset)
    return None


def corrupt(file: str, reason: str) -> ModelFileError:
    """Returns the error of a file that is no complete model."""
    return ModelFileError(
        f"A model file must be a complete .tflite file; got {file}, and {reason}. Convert or download it again."
    )


class CheckedBytes(bytes):
    """Bytes whose slices are never silently shorter than asked: strings are then checked as vectors are."""

    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    def __getitem__(self, key: SupportsIndex | slice) -> int | bytes:
        if isinstance(key, slice) and not 0 <= key.start <= key.stop <= len(self):
            raise IndexError(f"bytes {key.start} to {key.stop} of {len(self)}")
        return super().__getitem__(key)
