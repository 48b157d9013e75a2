# SPDX-License-Identifier: Apache-2.0
"""Figures of merit of a classifier, from its predictions alone: pure functions on arrays, no TensorFlow.

Classes are indices 0..C-1 in label order; accuracies, confidences and errors are fractions in [0, 1].
"""

import math

import numpy as np
import numpy.typing as npt

from learn2compress.schemas.reports import ClassFigures, Interval

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal distribution
CALIBRATION_BINS = 15  # as in Guo et al., 1706.04599


def label_rank(scores: npt.ArrayLike, labels: npt.ArrayLike) -> np.ndarray:
    """Ranks each image's true class among its scores; 0 is the prediction itself.

    Equal scores, which 8-bit outputs often hold, rank by class index, so that rank 0 is exactly what `argmax`
    predicts.

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
    """Reads scores as probabilities: as they are where all lie in [0, 1], else through a softmax.

    Rows are not asked to add up to one, since rounding to 8 bits changes the sum of many small probabilities.

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
    """Counts images by true and predicted class.

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
    """Computes precision, recall and F1 of each class; a ratio with nothing to divide by is 0.

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
    """Bounds a proportion by Wilson's score interval, which stays within [0, 1] and honest near its ends.

    Source: Wilson, 1927, doi:10.1080/01621459.1927.10502953.
    """
    if trials == 0:
        return Interval(low=0.0, high=1.0)
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At 0 and at 1 the bound is exact in arithmetic; rounding must not carry it past.
    low = 0.0 if successes == 0 else max(0.0, centre - reach)
    high = 1.0 if successes == trials else min(1.0, centre + reach)
    return Interval(low=low, high=high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Tests whether two classifiers differ in accuracy on the same images: McNemar's mid-p.

    With n images on which exactly one is right, and b the smaller share of them, p = 2·P(X < b) + P(X = b)
    for X ~ Binomial(n, 1/2).

    Args:
        only_first: Images that only the first gets right.
        only_second: Images that only the second gets right.

    Returns:
        Probability, in (0, 1], of a difference at least as large if both were equally good.

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
    """Applies `mcnemar_p` to the per-image correctness of two classifiers.

    Args:
        first: [images] bool.
        second: [images] bool, of the same images in the same order.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    return mcnemar_p(int(np.sum(first & ~second)), int(np.sum(second & ~first)))


def calibration_error(confidences: npt.ArrayLike, correct: npt.ArrayLike, bins: int = CALIBRATION_BINS) -> float:
    """Computes the expected calibration error: mean |accuracy - confidence| over bins of equal width.

    Args:
        confidences: [images] float, of the predicted class, in [0, 1].
        correct: [images] bool.
        bins: A confidence on the border between two bins counts in the lower.

    Source: Guo et al., 1706.04599, eq. 3.
    """
    confidences, correct = np.asarray(confidences, np.float64), np.asarray(correct, np.float64)
    if not confidences.size:
        return 0.0
    index = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, correct, bins) - np.bincount(index, confidences, bins)
    return float(np.abs(gaps).sum() / confidences.size)


def agreement(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Returns the share of images on which two classifiers predict the same class.

    Args:
        first: [images] int.
        second: [images] int.
    """
    same = np.asarray(first) == np.asarray(second)
    return float(same.mean()) if same.size else 0.0


def flips(labels: npt.ArrayLike, teacher: npt.ArrayLike, student: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Finds the images that the student lost (teacher right, student wrong) and won (the reverse).

    Args:
        labels: [images] int.
        teacher: [images] int, predicted classes.
        student: [images] int, predicted classes.

    Returns:
        Indices of the lost and of the won images, ascending.
    """
    right, kept = np.asarray(teacher) == np.asarray(labels), np.asarray(student) == np.asarray(labels)
    return np.flatnonzero(right & ~kept), np.flatnonzero(~right & kept)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
