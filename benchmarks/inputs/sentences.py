# SPDX-License-Identifier: Apache-2.0
"""Holds out whole sentences of SST-2, together with all phrases that lie in them.

SST-2 consists of the phrases of a parse tree, so that most texts of its dev split lie inside a text of its train split,
and accuracy there says little of sentences that are new. Its test split has whole sentences, and so has this one.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

LEAST_WORDS = 12  # of a sentence


def hold_out_sentences(texts: Sequence[str], count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Chooses sentences, and the texts that share no run of two or more words with a chosen one as a whole.

    Args:
        texts: Training texts.
        count: Number of sentences to hold out.
        seed: Seed of the choice.

    Returns:
        Indices of the texts that are left for training, and of the sentences that are held out.
    """
    words = [tuple(text.split()) for text in texts]
    sentences = _longest(words)
    chosen = np.random.default_rng(seed).permutation(len(sentences))[:count]
    held_out = np.array([sentences[index] for index in chosen], np.int64)
    inside = {
        words[index][start:end]
        for index in held_out
        for start in range(len(words[index]))
        for end in range(start + 2, len(words[index]) + 1)
    }
    return np.array([i for i, some in enumerate(words) if len(some) < 2 or some not in inside], np.int64), held_out


def _longest(words: Sequence[tuple[str, ...]]) -> list[int]:
    """Lists the texts of many words that lie in no longer text."""
    found: list[int] = []
    by_start: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for index in sorted(range(len(words)), key=lambda i: -len(words[i])):
        some = words[index]
        if len(some) < LEAST_WORDS:
            break
        line = f" {' '.join(some)} "
        if any(line in other for other in by_start.get(some[:3], ())):
            continue
        found.append(index)
        for start in range(len(some) - 2):
            by_start[some[start : start + 3]].append(line)
    return found
