# SPDX-License-Identifier: Apache-2.0
"""Ranks the features of texts by what they tell of the teacher's output, and the rows of a table by their effect.

Before training, a feature w is ranked by the mutual information of its presence with the teacher's class c, whose
distribution is the softmax of the logits rather than a single class:

    I(w; c) = Σ_{present, absent} P(w) Σ_c P(c | w) log (P(c | w) / P(c))

A rare word has little of it, however clearly it speaks, since it weights with frequency. The conditional distributions
are smoothed by one text of the average distribution.

The rows start at what naive Bayes makes of the same counts, the deviation of log P(w | c) from its mean over the
classes, which is closer to the trained rows than random numbers are.

After training, a row is ranked by the effect of leaving it out, weighted by frequency: the number of texts that have it
times the squared change of their logits, of which the mean over the classes has no effect on the probabilities.

Source: Yang and Pedersen, "A Comparative Study on Feature Selection in Text Categorization" (ICML 1997); Wang and
Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification" (ACL 2012).
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
    size, present = len(candidates.entries), texts_by_class(candidates, probabilities)
    counts, prior = candidates.counts[:, None], probabilities.mean(axis=0)
    absent = np.maximum(probabilities.sum(axis=0) - present, 0)
    total = candidates.texts
    information = np.zeros(size)
    for some, count in ((present, counts), (absent, total - counts)):
        conditional = (some + prior) / (count + 1)
        information += (count / total * conditional * np.log(np.maximum(conditional, 1e-12) / prior)).sum(axis=1)
    return np.maximum(information, 0)


def texts_by_class(candidates: Candidates, probabilities: np.ndarray) -> np.ndarray:
    """Computes the expected number of texts of each class that have each feature, [features, classes] float64."""
    size, classes = len(candidates.entries), probabilities.shape[1]
    return np.stack(
        [
            np.bincount(candidates.columns, probabilities[candidates.rows, label], minlength=size)
            for label in range(classes)
        ],
        axis=1,
    )


def naive_bayes(candidates: Candidates, probabilities: np.ndarray) -> np.ndarray:
    """Computes what each feature adds to the logits by naive Bayes, smoothed by one text a class.

    Args:
        candidates: The features, and which text has which.
        probabilities: Teacher's probabilities of the same texts, [texts, classes].

    Returns:
        [features, classes] float64, with a mean of 0 over the classes.
    """
    smoothed = texts_by_class(candidates, probabilities) + 1
    logits = np.log(smoothed / smoothed.sum(axis=0))
    return logits - logits.mean(axis=1, keepdims=True)


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
