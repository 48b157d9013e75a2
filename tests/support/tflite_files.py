# SPDX-License-Identifier: Apache-2.0
"""One transformation of a .tflite file by itself, from bytes to bytes, where a test looks at nothing else."""

from typing import Any

from learn2compress.tflite.parsed_file import parse_file
from learn2compress.tflite.transformations import compaction, metadata


def compact(data: bytes, *, keep_names: bool = False, file: str = "the model") -> bytes:
    return compaction.compact(parse_file(data, file=file), keep_names=keep_names).to_bytes()


def write_metadata(data: bytes, *, file: str = "the model", **about: Any) -> bytes:
    return metadata.write_metadata(parse_file(data, file=file), **about).to_bytes()
