# SPDX-License-Identifier: Apache-2.0
"""What the bundle of a text classifier needs beside the file: values for its snippets, and hard golden texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from learn2compress.modalities.text.lookup.keys import KEYS_FILE, Features, read_features

if TYPE_CHECKING:
    from learn2compress.modalities.opened import OpenedClassifier
    from learn2compress.tflite.parsed_file import ParsedFile

SNIPPETS: tuple[str, ...] = ("classify.py", "Classifier.kt", "Classifier.swift")

HARD_TEXTS: tuple[str, ...] = (
    "",
    "👍🏽 GREAT, isn't it?! ❤️",
    "שלום עולם — مرحبا بالعالم",
    "Straße ÜBER 中文 2024½ İstanbul ΟΔΟΣ",
    "the same words again and " * 400,
)
"""Golden texts beside those of the data: empty, emoji and apostrophes, right to left, unusual letters, overlong."""


def snippet_facts(parsed: ParsedFile, classifier: OpenedClassifier) -> Mapping[str, Any]:
    """Collects the values for the templates about a file's input: length, carrier and features of the dictionary."""
    content = parsed.files.get(KEYS_FILE)
    features = read_features(content) if content else Features()
    return {
        "tokens": classifier.input_shape[0],
        "carrier": "keys" if content else "words",
        "pairs": features.pairs,
        "prefix": features.prefix,
    }
