# SPDX-License-Identifier: Apache-2.0
"""Looks up the words of a text as 24-bit hashes, three bytes an entry, without storing the words themselves.

The features of a text are, word by word in lower case: the word, its prefix if the word is longer, and the pair of the
word before it and the word. Each has a key of 24 bits:

    h(word) = FNV-1a of its UTF-8 bytes, 32 bits
    key(word) = mix(h(word))
    key(prefix) = mix(h(prefix) ^ 0x5BD1E995)
    key(pair) = mix(h(first) · 0x9E3779B1 + h(second))
    mix(h) = the lower 24 bits of MurmurHash3's finalizer, without which similar words would have similar keys

The id of a feature is its position, from 1, in the sorted list of keys; features that are not in the list are skipped.
The list is in the file `keys.bin`: the four bytes `L2CK`, a byte of the version, a byte that is 1 if there are pairs, a
byte with the length of prefixes in code points (0: none), a zero byte, and then the keys, three bytes each, little
endian, in ascending order. An app finds a key by binary search; see templates/ for the same in Kotlin and Swift.

A feature that is not in the list has the key of another one that is with a probability of entries / 2^24, about one in
a thousand for 15,000 entries; training, evaluation and device agree on it, so that it is noise and no error.

Source: Fowler, Noll and Vo, "The FNV Non-Cryptographic Hash Algorithm" (draft-eastlake-fnv); Appleby, MurmurHash3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from learn2compress.modalities.text.words import decode_text, lower_case, split_words
from learn2compress.schemas.errors import ModelFileError

KEYS_FILE = "keys.bin"
PREFIX_MARK = "*"  # ends a prefix where features are written as text; a word does not contain it
KEY_BYTES = 3
HEADER_BYTES = 8
_MAGIC, _VERSION = b"L2CK", 1
_PREFIX_SALT, _PAIR_FACTOR = np.uint32(0x5BD1E995), np.uint32(0x9E3779B1)
_MASK = np.uint32(0xFFFFFF)


@dataclass(frozen=True)
class Features:
    """The features that a dictionary may have besides words.

    Attributes:
        pairs: Whether pairs of consecutive words are features.
        prefix: Length of prefixes in code points; 0 without prefixes.
    """

    pairs: bool = False
    prefix: int = 0

    def of_words(self, words: Sequence[str]) -> list[str]:
        """Lists the features of a text as text, in the order of `KeyLookup.encode`.

        Args:
            words: Words of the text in lower case.
        """
        found: list[str] = []
        for index, word in enumerate(words):
            found.append(word)
            if self.prefix and len(word) > self.prefix:
                found.append(word[: self.prefix] + PREFIX_MARK)
            if self.pairs and index:
                found.append(f"{words[index - 1]} {word}")
        return found


WORDS_ONLY = Features()


@lru_cache(maxsize=1 << 18)
def fnv1a(word: str) -> int:
    """Computes the 32-bit FNV-1a hash of a word's UTF-8 bytes."""
    state = 0x811C9DC5
    for byte in word.encode("utf-8", "replace"):
        state = (state ^ byte) * 0x01000193 & 0xFFFFFFFF
    return state


def mix(states: np.ndarray) -> np.ndarray:
    """Computes 24-bit keys from hashes, [n] uint32, by the finalizer of MurmurHash3."""
    states = states ^ states >> np.uint32(16)
    states = states * np.uint32(0x85EBCA6B)
    states = states ^ states >> np.uint32(13)
    states = states * np.uint32(0xC2B2AE35)
    return (states ^ states >> np.uint32(16)) & _MASK


def keys_of(features: Sequence[str]) -> np.ndarray:
    """Computes the keys of features that are written as text.

    Args:
        features: Words in lower case, prefixes that end in `*`, and pairs with a space between the words.

    Returns:
        [features] uint32.
    """
    states = np.zeros(len(features), np.uint32)
    for index, feature in enumerate(features):
        first, space, second = feature.partition(" ")
        if space:
            states[index] = (fnv1a(first) * int(_PAIR_FACTOR) + fnv1a(second)) & 0xFFFFFFFF
        elif feature.endswith(PREFIX_MARK):
            states[index] = fnv1a(feature[: -len(PREFIX_MARK)]) ^ int(_PREFIX_SALT)
        else:
            states[index] = fnv1a(feature)
    return mix(states)


class KeyLookup:
    """Finds the ids of the features of texts.

    Args:
        keys: Key of each entry, [entries] uint32, all different; entry i has the id i + 1.
        features: Kinds of features.
    """

    def __init__(self, keys: np.ndarray, features: Features) -> None:
        order = np.argsort(keys, kind="stable")
        self._sorted, self._ids = keys[order].astype(np.uint32), (order + 1).astype(np.int32)
        self._features = features

    def __len__(self) -> int:
        return len(self._sorted)

    def encode(self, texts: Sequence[bytes] | np.ndarray, length: int) -> np.ndarray:
        """Finds the ids of texts.

        Args:
            texts: UTF-8 bytes of each text.
            length: Number of ids of a text; further ones are cut off, missing ones are 0.

        Returns:
            [texts, length] int32.
        """
        words = [[lower_case(word) for word in split_words(decode_text(text))] for text in texts]
        counts = np.array([len(some) for some in words], np.int64)
        flat = [word for some in words for word in some]
        texts_of = np.repeat(np.arange(len(words)), counts)
        ids, features = np.zeros((len(words), length), np.int32), self._features_of(flat, texts_of)
        found = self._find(features)
        owners = np.broadcast_to(texts_of[:, None], found.shape).ravel()
        chosen = found.ravel() > 0
        owners, values = owners[chosen], found.ravel()[chosen]
        positions = np.arange(len(owners)) - np.searchsorted(owners, owners, side="left")
        fits = positions < length
        ids[owners[fits], positions[fits]] = values[fits]
        return ids

    def _features_of(self, words: list[str], texts: np.ndarray) -> np.ndarray:
        """Computes the keys of each word's features, [words, kinds]; what does not exist has a key that none has."""
        none = np.uint32(0xFFFFFFFF)
        states = np.array([fnv1a(word) for word in words], np.uint32)
        columns = [mix(states)]
        if self._features.prefix:
            length = self._features.prefix
            prefixes = np.array([fnv1a(word[:length]) for word in words], np.uint32)
            longer = np.array([len(word) > length for word in words], bool)
            columns.append(np.where(longer, mix(prefixes ^ _PREFIX_SALT), none))
        if self._features.pairs:
            pairs = np.full(len(words), none, np.uint32)
            if len(words) > 1:
                together = mix(states[:-1] * _PAIR_FACTOR + states[1:])
                pairs[1:] = np.where(texts[1:] == texts[:-1], together, none)
            columns.append(pairs)
        return np.stack(columns, axis=1)

    def _find(self, keys: np.ndarray) -> np.ndarray:
        if not len(self._sorted):
            return np.zeros(keys.shape, np.int32)
        places = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(self._sorted[places] == keys, self._ids[places], 0)


def write_keys(keys: np.ndarray, features: Features) -> bytes:
    """Writes the file `keys.bin`.

    Args:
        keys: Keys in ascending order, [entries] uint32.
        features: Kinds of features.
    """
    header = _MAGIC + bytes([_VERSION, features.pairs, features.prefix, 0])
    return header + keys.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :KEY_BYTES].tobytes()


def read_keys(content: bytes, file: str) -> KeyLookup:
    """Reads the file `keys.bin`.

    Args:
        content: Its bytes.
        file: Name of the .tflite file in error messages.

    Raises:
        ModelFileError: The content is no such file.
    """
    body = content[HEADER_BYTES:]
    if content[:4] != _MAGIC or content[4:5] != bytes([_VERSION]) or len(body) % KEY_BYTES:
        raise ModelFileError(
            f"{KEYS_FILE} in {file} must be a list of 24-bit keys, version {_VERSION}; it is not. "
            "Write the file again, or use another."
        )
    parts = np.frombuffer(body, np.uint8).reshape(-1, KEY_BYTES).astype(np.uint32)
    keys = parts[:, 0] | parts[:, 1] << np.uint32(8) | parts[:, 2] << np.uint32(16)
    if (keys[1:] <= keys[:-1]).any():
        raise ModelFileError(
            f"The keys in {file} must be in ascending order; they are not. Write the file again, or use another."
        )
    return KeyLookup(keys, read_features(content))


def read_features(content: bytes) -> Features:
    """Reads the kinds of features from the head of the file `keys.bin`."""
    return Features(bool(content[5]), content[6])
