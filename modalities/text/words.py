# SPDX-License-Identifier: Apache-2.0
r"""Splits texts into words: the one definition for training, evaluation, views and the device.

A word is a run of letters and numbers, the Unicode categories L and N. The on-device form of the same definition is the
delimiter `[^\pL\pN]+`, a regular expression of RE2 (MediaPipe, Task Library), Java, Kotlin and Swift; RE2's `\w` would
not do, since it is ASCII only. A combining mark (category M) therefore separates words, also on the device.
"""

import re

SEPARATOR = r"[^\pL\pN]+"
"""What separates words, for the metadata of a .tflite file and the snippets; Python's `re` does not read `\\p`."""

# Python's \w is the categories L and N with the underscore; a test compares it with `unicodedata` on all code points.
_WORD = re.compile(r"[^\W_]+")


def decode_text(stored: bytes) -> str:
    """Decodes a stored text.

    Args:
        stored: UTF-8 bytes; bytes that are no UTF-8 are read as U+FFFD, which separates words.
    """
    return stored.decode("utf-8", "replace")


def split_words(text: str) -> list[str]:
    """Splits a text into its words, as typed."""
    return _WORD.findall(text)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Returns the start and the end of each word, as indices of code points."""
    return [match.span() for match in _WORD.finditer(text)]


def lower_case(word: str) -> str:
    """Converts a word to lower case, code point by code point.

    Of the lower-case form of each code point the first code point is taken, without regard to its neighbours. Kotlin's
    `Character.toLowerCase` and Swift's `lowercaseMapping.first` give the same, unlike their functions for strings,
    which depend on the language or on the position in the word.
    """
    return word.lower() if word.isascii() else "".join(character.lower()[0] for character in word)
