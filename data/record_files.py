# SPDX-License-Identifier: Apache-2.0
"""Reads TFRecord files, plain or gzip, without TensorFlow.

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
from typing import NoReturn

import google_crc32c

from learn2compress.schemas.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b\x08"


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
        if stream.read(3) == _GZIP_MAGIC:
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


def _open(path: str | Path) -> gzip.GzipFile | io.BufferedReader:
    with open(path, "rb") as stream:
        zipped = stream.read(3) == _GZIP_MAGIC
    return gzip.open(path, "rb") if zipped else open(path, "rb")


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
