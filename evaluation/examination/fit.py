# SPDX-License-Identifier: Apache-2.0
"""Judges by labelled images whether a classifier was read aright: against chance, and against other readings of it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# Of what guessing leaves to be won, a classifier must win this much to count as knowing anything.
ABOVE_CHANCE = 0.15
# Below this accuracy it is worth the time to look whether another reading does better.
SUSPECT = 0.6
# Another reading is named where it scores so much more than the present one, and so much at all.
MUCH_BETTER = 0.15
GOOD = 0.35  # of what guessing leaves to be won
STANDARD_ERRORS = 3
KNOWN_ERRORS = 2.5
_SAME_ACCURACY = 0.01  # within it, cross-entropy decides


class Reading(NamedTuple):
    """What a classifier scores on labelled images under one reading of it.

    Attributes:
        right: [images] bool, whether the largest score is of the true class.
        losses: [images] float64, cross-entropy in nats.
    """

    right: np.ndarray
    losses: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of the images that are classified correctly."""
        return float(self.right.mean())


def read_scores(logits: np.ndarray, labels: np.ndarray) -> Reading:
    """Compare logits, [images, classes], with the labels."""
    return Reading(logits.argmax(axis=1) == labels, cross_entropy(logits, labels))


def chance_of(counts: np.ndarray) -> float:
    """Compute what naming the most frequent class for every image would score, from the images of each class."""
    return float(counts.max() / counts.sum())


def near_chance(accuracy: float, chance: float, images: int | None = None) -> bool:
    """Tell whether a score is no more than guessing explains.

    Args:
        accuracy: The score.
        chance: That of the most frequent class.
        images: Their number, where the score must also be more than chance explains for so many.
    """
    error = np.sqrt(chance * (1 - chance) / images) if images else 0.0
    return accuracy < chance + max(ABOVE_CHANCE * (1 - chance), STANDARD_ERRORS * error)


def knows_validation(validation: float, validation_images: int, test: float, test_images: int) -> bool:
    """Tell whether an accuracy on validation images lies so far above that on test images that it cannot be by chance.

    The two-proportion z-test with the pooled variance.
    """
    pooled = (validation * validation_images + test * test_images) / max(1, validation_images + test_images)
    error = np.sqrt(pooled * (1 - pooled) * (1 / max(1, validation_images) + 1 / max(1, test_images)))
    return bool(validation - test > max(0.01, KNOWN_ERRORS * error))


def good_score(chance: float) -> float:
    """Return the score that another reading must reach to be named."""
    return chance + GOOD * (1 - chance)


def clearly_better(other: Reading, present: Reading) -> bool:
    """Tell whether one reading scores so much more than another, on the same images, that it cannot be by chance."""
    won = int((other.right & ~present.right).sum())
    lost = int((present.right & ~other.right).sum())
    return won - lost > max(2 * np.sqrt(won + lost), 0.02 * len(other.right))


def much_surer(other: Reading, present: Reading) -> bool:
    """Tell whether one reading is no less accurate than another and gives the true classes much more probability."""
    gain = present.losses - other.losses
    error = gain.std() / np.sqrt(len(gain))
    return other.accuracy >= present.accuracy and gain.mean() > max(0.1, STANDARD_ERRORS * error)


def best_reading(readings: Mapping[str, Reading]) -> str | None:
    """Return the name of the most accurate reading; among those as good as equal, the one of least cross-entropy."""
    if not readings:
        return None
    most = max(reading.accuracy for reading in readings.values())
    equal = [name for name, reading in readings.items() if reading.accuracy >= most - _SAME_ACCURACY]
    return min(equal, key=lambda name: float(readings[name].losses.mean()))


def best_class_order(
    answers: np.ndarray, labels: np.ndarray, outputs: int, classes: int
) -> tuple[float, tuple[int, ...]]:
    """Find which output stands for which class: the assignment with the most predictions in agreement.

    With many classes and few images some assignment always agrees well, by chance. So the score is that of
    halves of the images under the order found on the other half.

    Args:
        answers: [n] the outputs that were largest.
        labels: [n] classes.
        outputs: Number of outputs.
        classes: Number of classes; at most that of outputs.

    Returns:
        The share of images in agreement, and for each class the index of its output.

    Source: Kuhn, "The Hungarian method for the assignment problem" (1955).
    """
    # Every second image of each class, since classes may take turns in the data.
    halves = np.empty(len(answers), bool)
    halves[np.argsort(labels, kind="stable")] = np.arange(len(answers)) % 2 == 0
    agree = 0
    for half in (halves, ~halves):
        order = np.array(_assignment(answers[half], labels[half], outputs, classes))
        agree += int((order[labels[~half]] == answers[~half]).sum())
    return agree / len(answers), _assignment(answers, labels, outputs, classes)


def _assignment(answers: np.ndarray, labels: np.ndarray, outputs: int, classes: int) -> tuple[int, ...]:
    from scipy.optimize import linear_sum_assignment  # comes with scikit-learn; its import takes time

    table = np.zeros((classes, outputs))
    np.add.at(table, (labels, answers), 1)
    # Where the images decide nothing, a class keeps its own output.
    table[np.arange(classes), np.arange(classes)] += 0.5
    rows, columns = linear_sum_assignment(table, maximize=True)
    return tuple(int(column) for column in columns[np.argsort(rows)])


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the cross-entropy of each image, [images] float64, in nats."""
    logits = logits.astype(np.float64)
    peak = logits.max(axis=1)
    total = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
    return total - logits[np.arange(len(labels)), labels]
