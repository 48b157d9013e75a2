# SPDX-License-Identifier: Apache-2.0
"""Reads TFRecord files, plain, gzip or zlib, without TensorFlow.

TensorFlow takes seconds to import, and accepts a file that ends within the length of a record, or a gzip stream without
its end, as complete. A record is framed as: length (uint64), checksum of the length, data, checksum of the data (masked
CRC-32C).

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

import gzip
import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, cast

import google_crc32c

from learn2compress.schemas.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b\x08"
_STEP = 1 << 16


def read_records(path: str | Path) -> Iterator[bytes]:
    """Stream the records of a file.

    Raises:
        DataError: The file is truncated or damaged; the message names the record.
    """
    index = 0
    try:
        with _open(path) as stream:
            while head := stream.read(12):
                if len(head) < 12:
                    raise EOFError("it is cut short")
                (length,) = struct.unpack("<Q", head[:8])
                if _checksum(head[:8]) != head[8:]:
                    raise ValueError("its length does not match its checksum")
                body = stream.read(length + 4)
                if len(body) < length + 4:
                    raise EOFError("it is cut short")
                data = body[:-4]
                if _checksum(data) != body[-4:]:
                    raise ValueError("its data do not match their checksum")
                yield data
                index += 1
    except (OSError, EOFError, ValueError, zlib.error) as error:
        _raise_damaged(path, index, error)


def count_records(path: str | Path) -> int:
    """Count the records of a file; of a plain file only the lengths of the records are read.

    Raises:
        DataError: The file is truncated; the message names the record.
    """
    with open(path, "rb") as stream:
        if _compression(stream.read(12)):
            return sum(1 for _ in read_records(path))
        size, place, count = stream.seek(0, os.SEEK_END), 0, 0
        while place < size:
            stream.seek(place)
            head = stream.read(12)
            if len(head) == 12 and _checksum(head[:8]) != head[8:]:
                _raise_damaged(path, count, ValueError("its length does not match its checksum"))
            place += 16 + struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 16
            if place > size:
                _raise_damaged(path, count, EOFError("it is cut short"))
            count += 1
        return count


def _raise_damaged(path: str | Path, index: int, error: Exception) -> NoReturn:
    raise DataError(
        f"{path} must be a whole TFRecord file; got record {index} of which {error}. "
        "Copy or write the file anew."
    ) from error  # fmt: skip


def _open(path: str | Path) -> IO[bytes]:
    with open(path, "rb") as stream:
        kind = _compression(stream.read(12))
    if kind == "zlib":
        return io.BufferedReader(_Inflating(open(path, "rb")))
    return cast(IO[bytes], gzip.open(path, "rb")) if kind == "gzip" else open(path, "rb")


def _compression(head: bytes) -> Literal["gzip", "zlib", None]:
    """Tells by its first 12 bytes how a file is compressed; those of a plain one hold a length and its checksum."""
    if head[:3] == _GZIP_MAGIC:
        return "gzip"
    if len(head) == 12 and _checksum(head[:8]) == head[8:]:
        return None
    zlib_header = len(head) >= 2 and head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0
    return "zlib" if zlib_header else None


class _Inflating(io.RawIOBase):
    """A zlib stream, read as what it holds."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._inflate, self._left = stream, zlib.decompressobj(), b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._stream.close()
        super().close()

    def readinto(self, target: Any) -> int:
        while not self._left and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._stream.read(_STEP)
            if not packed:
                raise EOFError("it is cut short")
            self._left = self._inflate.decompress(packed, _STEP)
        count = min(len(target), len(self._left))
        target[:count], self._left = self._left[:count], self._left[count:]
        return count


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
