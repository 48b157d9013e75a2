# SPDX-License-Identifier: Apache-2.0
"""Applies single transformations to the bytes of a .tflite file, and counts how often files are parsed and packed."""

from typing import Any

import pytest

from learn2compress.tflite import model_file, parsed_file
from learn2compress.tflite.parsed_file import parse_file
from learn2compress.tflite.transformations import compaction, metadata


def compact(data: bytes, *, keep_names: bool = False, file: str = "the model") -> bytes:
    return compaction.compact(parse_file(data, file=file), keep_names=keep_names).to_bytes()


def write_metadata(data: bytes, *, file: str = "the model", **about: Any) -> bytes:
    return metadata.write_metadata(parse_file(data, file=file), **about).to_bytes()


def count_calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts from now on how often any code parses ("unpack") and packs ("pack") a flatbuffer."""
    counts = {"unpack": 0, "pack": 0}

    def count(module: Any, name: str) -> None:
        real = getattr(module, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, counted)

    count(model_file, "unpack")
    count(parsed_file, "unpack")
    count(parsed_file, "pack")
    return counts
