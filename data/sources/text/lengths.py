# SPDX-License-Identifier: Apache-2.0
"""Suggests how many words of a text a student reads."""

from collections import Counter

from learn2compress.modalities.text.words import split_words

_SHARE, _ROUNDED_TO, _LEAST, _MOST = 0.95, 8, 16, 256


class Lengths:
    """Counts the words of texts."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, text: str) -> None:
        """Counts the words of a text."""
        self._counts[len(split_words(text))] += 1

    def suggest(self) -> tuple[int] | None:
        """Returns (tokens,): enough for 95 % of the texts, a multiple of 8 from 16 to 256; None without texts."""
        if not self._counts:
            return None
        missing = _SHARE * sum(self._counts.values())
        for words in sorted(self._counts):
            missing -= self._counts[words]
            if missing <= 0:
                break
        return (min(_MOST, max(_LEAST, -(-words // _ROUNDED_TO) * _ROUNDED_TO)),)
