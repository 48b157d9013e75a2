# SPDX-License-Identifier: Apache-2.0
"""Splits texts into words by one rule, in training, in evaluation and on the device.

A word is a run of letters and digits of any script (Unicode categories L and N); everything else separates words. Case
is kept. RE2, Kotlin, Swift and the RegexTokenizer of the file's metadata state the same rule as `SEPARATOR`; Python's
`[^\\W_]` is the same set of characters.
"""

import re

SEPARATOR = r"[^\pL\pN]+"
"""What separates words, in the syntax of RE2, Java and ICU."""

_WORD = re.compile(r"[^\W_]+")


def split_words(text: str) -> list[str]:
    """Splits a text into its words, in order."""
    return _WORD.findall(text)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Finds the words of a text as pairs of positions, [start, end)."""
    return [word.span() for word in _WORD.finditer(text)]


def decode_text(stored: bytes) -> str:
    """Decodes a stored text."""
    return stored.decode("utf-8", "replace")
