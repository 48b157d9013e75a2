# SPDX-License-Identifier: Apache-2.0
"""Ranks the features of texts by what they tell of the teacher's output, and the rows of a table by their effect.

Before training, a feature w is ranked by the mutual information of its presence with the teacher's class c, whose
distribution is the softmax of the logits rather than a single class:

    I(w; c) = Σ_{present, absent} P(w) Σ_c P(c | w) log (P(c | w) / P(c))

A rare word has little of it, however clearly it speaks, since it weights with frequency. The conditional distributions
are smoothed by one text of the average distribution.

After training, a row is ranked by the effect of leaving it out, weighted by frequency: the number of texts that have it
times the squared change of their logits, of which the mean over the classes has no effect on the probabilities.

Source: Yang and Pedersen, "A Comparative Study on Feature Selection in Text Categorization" (ICML 1997).
"""

import numpy as np

from learn2compress.compression.dictionary.candidates import Candidates


def mutual_information(candidates: Candidates, probabilities: np.ndarray) -> np.ndarray:
    """Computes the mutual information of each feature with the teacher's class.

    Args:
        candidates: The features, and which text has which.
        probabilities: Teacher's probabilities of the same texts, [texts, classes].

    Returns:
        [features] float64, in nats, not negative.
    """
    size, classes = len(candidates.entries), probabilities.shape[1]
    present = np.stack(
        [
            np.bincount(candidates.columns, probabilities[candidates.rows, label], minlength=size)
            for label in range(classes)
        ],
        axis=1,
    )
    counts, prior = candidates.counts[:, None], probabilities.mean(axis=0)
    absent = np.maximum(probabilities.sum(axis=0) - present, 0)
    total = candidates.texts
    information = np.zeros(size)
    for some, count in ((present, counts), (absent, total - counts)):
        conditional = (some + prior) / (count + 1)
        information += (count / total * conditional * np.log(np.maximum(conditional, 1e-12) / prior)).sum(axis=1)
    return np.maximum(information, 0)


def drop_one_effect(logits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Computes the effect of leaving out each row of a table.

    Args:
        logits: What each row adds to the logits of a text, [rows, classes].
        counts: Number of texts with each row, [rows].

    Returns:
        [rows] float64, not negative.
    """
    changes = logits - logits.mean(axis=1, keepdims=True)
    return counts * (changes.astype(np.float64) ** 2).sum(axis=1)


def ranked(importance: np.ndarray) -> np.ndarray:
    """Returns the indices from the most to the least important one; equal ones stay in their order."""
    return np.argsort(-importance, kind="stable")
