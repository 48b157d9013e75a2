# SPDX-License-Identifier: Apache-2.0
"""Computes figures of merit of a classifier from its predictions, as pure functions on arrays without TensorFlow.

Classes are indices 0..C-1 in label order; accuracies, confidences and errors are fractions in [0, 1].
"""

import math

import numpy as np
import numpy.typing as npt

from learn2compress.schemas.reports import ClassFigures, Interval

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal distribution
CALIBRATION_BINS = 15  # as in Guo et al., arXiv:1706.04599


def label_rank(scores: npt.ArrayLike, labels: npt.ArrayLike) -> np.ndarray:
    """Rank each image's true class among its scores; rank 0 means that it is the predicted class.

    Equal scores, which are frequent in 8-bit outputs, rank by class index, so that rank 0 agrees with `argmax`.

    Args:
        scores: [images, classes] float.
        labels: [images] int.

    Returns:
        [images] int64.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1])[None, :] < labels[:, None]
    return np.sum((scores > own) | ((scores == own) & earlier), axis=1)


def probabilities(scores: npt.ArrayLike) -> np.ndarray:
    """Convert scores to probabilities: unchanged if all lie in [0, 1], otherwise by a softmax.

    Rows need not add up to one, since rounding to 8 bits changes the sum of many small probabilities.

    Args:
        scores: [images, classes] float, probabilities or logits.

    Returns:
        [images, classes] float32.
    """
    scores = np.asarray(scores, np.float32)
    if scores.size and scores.min() >= 0 and scores.max() <= 1:
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def confusion_matrix(labels: npt.ArrayLike, predictions: npt.ArrayLike, classes: int) -> np.ndarray:
    """Count images by true and predicted class.

    Args:
        labels: [images] int.
        predictions: [images] int.
        classes: Number of classes.

    Returns:
        [classes, classes] int64, [label][prediction]; adds up to the number of images.
    """
    cells = np.asarray(labels, np.int64) * classes + np.asarray(predictions, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def class_figures(confusion: npt.ArrayLike) -> list[ClassFigures]:
    """Compute precision, recall and F1 of each class; a ratio with denominator 0 is 0.

    Args:
        confusion: [classes, classes] int, [label][prediction].
    """
    confusion = np.asarray(confusion)
    hits, actual, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return [
        ClassFigures(
            precision=_ratio(hit, guesses),
            recall=_ratio(hit, images),
            f1=_ratio(2 * hit, images + guesses),
            images=int(images),
        )
        for hit, images, guesses in zip(hits, actual, predicted, strict=True)
    ]


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> Interval:
    """Compute Wilson's score interval of a proportion, which stays within [0, 1] and is accurate near its ends.

    Source: Wilson, 1927, doi:10.1080/01621459.1927.10502953.
    """
    if trials == 0:
        return Interval(low=0.0, high=1.0)
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At 0 and 1 the exact bound is 0 or 1; rounding must not exceed it.
    low = 0.0 if successes == 0 else max(0.0, centre - reach)
    high = 1.0 if successes == trials else min(1.0, centre + reach)
    return Interval(low=low, high=high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Test whether two classifiers differ in accuracy on the same images, by McNemar's mid-p test.

    With n images on which exactly one is right, and b the smaller number of them, p = 2·P(X < b) + P(X = b)
    for X ~ Binomial(n, 1/2).

    Args:
        only_first: Number of images that only the first classifies correctly.
        only_second: Number of images that only the second classifies correctly.

    Returns:
        p-value in (0, 1]: the probability of a difference at least as large if both were equally accurate.

    Source: Fagerland, Lydersen and Laake, 2013, doi:10.1186/1471-2288-13-91.
    """
    discordant, smaller = only_first + only_second, min(only_first, only_second)
    if discordant == 0:
        return 1.0

    def mass(count: int) -> float:
        ways = math.lgamma(discordant + 1) - math.lgamma(count + 1) - math.lgamma(discordant - count + 1)
        return math.exp(ways - discordant * math.log(2))

    return min(1.0, 2 * sum(mass(count) for count in range(smaller)) + mass(smaller))


def mcnemar_of(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Apply `mcnemar_p` to the per-image correctness of two classifiers.

    Args:
        first: [images] bool.
        second: [images] bool, of the same images in the same order.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    return mcnemar_p(int(np.sum(first & ~second)), int(np.sum(second & ~first)))


def calibration_error(confidences: npt.ArrayLike, correct: npt.ArrayLike, bins: int = CALIBRATION_BINS) -> float:
    """Compute the expected calibration error: mean |accuracy - confidence| over bins of equal width.

    Args:
        confidences: [images] float, of the predicted class, in [0, 1].
        correct: [images] bool.
        bins: Number of bins; a confidence on the border of two bins belongs to the lower one.

    Source: Guo et al., arXiv:1706.04599, eq. 3.
    """
    confidences, correct = np.asarray(confidences, np.float64), np.asarray(correct, np.float64)
    if not confidences.size:
        return 0.0
    index = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, correct, bins) - np.bincount(index, confidences, bins)
    return float(np.abs(gaps).sum() / confidences.size)


def agreement(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return the fraction of images on which two classifiers predict the same class.

    Args:
        first: [images] int.
        second: [images] int.
    """
    same = np.asarray(first) == np.asarray(second)
    return float(same.mean()) if same.size else 0.0


def flips(labels: npt.ArrayLike, teacher: npt.ArrayLike, student: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Find the negative flips (teacher right, student wrong) and the positive flips (teacher wrong, student right).

    Args:
        labels: [images] int.
        teacher: [images] int, predicted classes.
        student: [images] int, predicted classes.

    Returns:
        Indices of the negatively and of the positively flipped images, ascending.
    """
    right, kept = np.asarray(teacher) == np.asarray(labels), np.asarray(student) == np.asarray(labels)
    return np.flatnonzero(right & ~kept), np.flatnonzero(~right & kept)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
