# SPDX-License-Identifier: Apache-2.0
"""The dictionary of a family of text students, ordered by importance, and what a student's file carries of it.

Entry i has the id i + 1; id 0 is that of padding and of unknown words. A smaller student takes the first entries. There
are two carriers:

words   `vocab.txt`: MediaPipe and the Task Library load the file as it is. Words are looked up as they are typed, so an
        entry has each form in which it was seen ("oil", "Oil"), all with one id.
keys    `keys.bin`: three bytes an entry, for words, prefixes and pairs; an app needs a short program (see templates/).
        The rows of a student's table are in the order of its keys.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from learn2compress.modalities.text.lookup.keys import (
    HEADER_BYTES,
    KEY_BYTES,
    KEYS_FILE,
    WORDS_ONLY,
    Features,
    KeyLookup,
    keys_of,
    write_keys,
)
from learn2compress.modalities.text.lookup.vocabulary import (
    PAD,
    UNKNOWN,
    VOCABULARY_FILE,
    VocabularyLookup,
    write_vocabulary,
)
from learn2compress.schemas.errors import TrainingError

Carrier = Literal["words", "keys"]
DICTIONARY_FILE = "dictionary.json"


class Lookup(Protocol):
    """Finds the ids of texts; implemented by `VocabularyLookup` and `KeyLookup`."""

    def encode(self, texts: Sequence[bytes] | np.ndarray, length: int) -> np.ndarray:
        """Finds the ids, [texts, length] int32, of UTF-8 bytes."""


@dataclass(frozen=True)
class Dictionary:
    """The entries of a dictionary, the most important one first.

    Attributes:
        carrier: What a student's file carries.
        entries: Features as text: words in lower case, prefixes that end in `*`, pairs of words.
        forms: For the carrier `words`: the forms of each entry as typed, at least one; else empty.
        features: For the carrier `keys`: the kinds of features.
    """

    carrier: Carrier
    entries: tuple[str, ...]
    forms: tuple[tuple[str, ...], ...] = ()
    features: Features = WORDS_ONLY

    def first(self, rows: int) -> Dictionary:
        """Returns the dictionary of the first entries."""
        return replace(self, entries=self.entries[:rows], forms=self.forms[:rows])

    def keeping(self, indices: Sequence[int]) -> Dictionary:
        """Returns the dictionary of some entries, in the order of the indices."""
        forms = tuple(self.forms[i] for i in indices) if self.forms else ()
        return replace(self, entries=tuple(self.entries[i] for i in indices), forms=forms)

    @cached_property
    def lookup(self) -> Lookup:
        """The lookup with the ids of the family: entry i has the id i + 1."""
        if self.carrier == "words":
            return VocabularyLookup({PAD: 0, UNKNOWN: 0, **dict(self._numbered())})
        return KeyLookup(keys_of(self.entries), self.features)

    @cached_property
    def file_order(self) -> np.ndarray:
        """Index of the entry of each row of a student's table, without row 0: [entries] int64."""
        if self.carrier == "words":
            return np.arange(len(self.entries))
        return np.argsort(keys_of(self.entries), kind="stable")

    @cached_property
    def file_lookup(self) -> Lookup:
        """The lookup with the ids of a student's file, the rows of which are in `file_order`."""
        return self.lookup if self.carrier == "words" else KeyLookup(np.sort(keys_of(self.entries)), self.features)

    @property
    def file_name(self) -> str:
        """Name of the file that a student's .tflite file carries."""
        return VOCABULARY_FILE if self.carrier == "words" else KEYS_FILE

    def file_content(self) -> bytes:
        """Writes the file that a student's .tflite file carries."""
        if self.carrier == "words":
            return write_vocabulary(self._numbered())
        return write_keys(np.sort(keys_of(self.entries)), self.features)

    def cumulative_bytes(self) -> np.ndarray:
        """Computes the size of the carried file of the first n entries, for n from 0: [entries + 1] int64."""
        if self.carrier == "keys":
            return HEADER_BYTES + KEY_BYTES * np.arange(len(self.entries) + 1)
        own = [
            sum(len(form.encode()) + len(str(index + 1)) + 2 for form in forms)
            for index, forms in enumerate(self.forms)
        ]
        return np.cumsum([len(write_vocabulary(())), *own])

    def to_bytes(self) -> bytes:
        """Writes the dictionary as JSON."""
        tree = {
            "carrier": self.carrier,
            "entries": self.entries,
            "forms": self.forms,
            "pairs": self.features.pairs,
            "prefix": self.features.prefix,
        }
        return (json.dumps(tree, ensure_ascii=False, separators=(",", ":")) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Dictionary:
        """Reads the result of `to_bytes`.

        Raises:
            TrainingError: It is no dictionary.
        """
        try:
            tree = json.loads(content)
            return cls(
                tree["carrier"],
                tuple(tree["entries"]),
                tuple(map(tuple, tree["forms"])),
                Features(tree["pairs"], tree["prefix"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{DICTIONARY_FILE} must be a dictionary; {error!r}. Run Distiller again.") from error

    def _numbered(self) -> list[tuple[str, int]]:
        return [(form, index + 1) for index, forms in enumerate(self.forms) for form in forms]
