# SPDX-License-Identifier: Apache-2.0
"""Presents texts to people: their beginnings, golden files, and the programs of the bundle that run the chosen file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from learn2compress.modalities.text.snippets import HARD_TEXTS, SNIPPETS, snippet_facts
from learn2compress.modalities.text.words import decode_text

if TYPE_CHECKING:
    from learn2compress.modalities.opened import OpenedClassifier
    from learn2compress.tflite.parsed_file import ParsedFile

_SHOWN_CHARACTERS = 160


class TextPresentation:
    """Implements `Presentation` for texts.

    Args:
        tokens: Number of ids that a student reads.
    """

    classifier = "text classifier"
    snippets = SNIPPETS

    def __init__(self, tokens: int) -> None:
        self.described = f"a text of which the first {tokens} words are read"
        self.size = f"{tokens} words"
        self.input_format = f"text, {tokens} words"

    def preview(self, stored: bytes) -> str:
        """Returns the beginning of a text, in one line."""
        text = " ".join(decode_text(stored).split())
        return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"

    def golden_file(self, stored: bytes) -> tuple[str, bytes]:
        """Returns the text in UTF-8."""
        return ".txt", stored

    def snippet_template(self, name: str) -> str:
        """Reads a template from the folder beside this module."""
        return (resources.files(__package__) / "templates" / f"{name}.j2").read_text("utf-8")

    def snippet_facts(self, parsed: ParsedFile, classifier: OpenedClassifier) -> Mapping[str, Any]:
        """Collects the number of ids and the features of the dictionary; see `snippets.snippet_facts`."""
        return snippet_facts(parsed, classifier)

    @property
    def golden_extras(self) -> tuple[bytes, ...]:
        """Hard cases of texts; see `snippets.HARD_TEXTS`."""
        return tuple(text.encode() for text in HARD_TEXTS)
