# SPDX-License-Identifier: Apache-2.0
"""Collects the features of the training texts, from which the entries of a dictionary are chosen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from learn2compress.modalities.text.lookup.dictionary import Carrier
from learn2compress.modalities.text.lookup.keys import Features, keys_of
from learn2compress.modalities.text.words import decode_text, lower_case, split_words

# A form of a word as typed is stored if it is at least this share of the word's occurrences, and occurs twice.
FORM_SHARE = 0.05
FORM_COUNT = 2


@dataclass(frozen=True)
class Candidates:
    """The features of some texts, and which text has which.

    Attributes:
        entries: Features as text, sorted.
        forms: Forms of each feature as typed, the most frequent one first; empty for keys.
        texts: Number of texts.
        rows: Index of the text of each occurrence, [occurrences] int64; a feature counts once a text.
        columns: Index of the feature of each occurrence, [occurrences] int64.
    """

    entries: tuple[str, ...]
    forms: tuple[tuple[str, ...], ...]
    texts: int
    rows: np.ndarray
    columns: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Number of texts with each feature, [features] int64."""
        return np.bincount(self.columns, minlength=len(self.entries))


def collect(texts: Sequence[bytes], carrier: Carrier, features: Features, least: int = 1) -> Candidates:
    """Collects the features of texts.

    Args:
        texts: Training texts, UTF-8.
        carrier: Carrier of the dictionary; forms are collected for `words` only.
        features: Kinds of features.
        least: Least number of texts that must have a feature; single words need only one.

    Returns:
        The features; of features with the same key only the most frequent one.
    """
    found: list[set[str]] = []
    forms: dict[str, Counter[str]] = {}
    for text in texts:
        words = split_words(decode_text(text))
        lowered = [lower_case(word) for word in words]
        found.append(set(features.of_words(lowered)))
        if carrier == "words":
            for word, low in zip(words, lowered, strict=True):
                forms.setdefault(low, Counter())[word] += 1
    counts = Counter(feature for some in found for feature in some)
    kept = sorted(feature for feature, count in counts.items() if count >= least or _is_word(feature))
    if carrier == "keys":
        kept = _one_of_each_key(kept, counts)
    index = {feature: number for number, feature in enumerate(kept)}
    pairs = [(row, index[feature]) for row, some in enumerate(found) for feature in sorted(some) if feature in index]
    occurrences = np.array(pairs, np.int64).reshape(-1, 2)
    shown = tuple(_usual_forms(forms[feature]) for feature in kept) if carrier == "words" else ()
    return Candidates(tuple(kept), shown, len(texts), occurrences[:, 0], occurrences[:, 1])


def _is_word(feature: str) -> bool:
    return " " not in feature and not feature.endswith("*")


def _one_of_each_key(features: Sequence[str], counts: Counter[str]) -> list[str]:
    keys = keys_of(features)
    frequency = np.array([counts[feature] for feature in features])
    order = np.lexsort((np.arange(len(features)), -frequency, keys))
    first = np.ones(len(order), bool)
    first[1:] = keys[order][1:] != keys[order][:-1]
    return [features[i] for i in np.sort(order[first])]


def _usual_forms(forms: Counter[str]) -> tuple[str, ...]:
    total = sum(forms.values())
    ordered = sorted(forms.items(), key=lambda pair: (-pair[1], pair[0]))
    usual = [form for form, count in ordered if count >= max(FORM_COUNT, FORM_SHARE * total)]
    return tuple(usual or [ordered[0][0]])
