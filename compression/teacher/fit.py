# SPDX-License-Identifier: Apache-2.0
"""Judging whether a teacher fits the data: that it scores, and if it does not, why not.

A teacher that is shown pixels in another range, or whose classes stand in another order, answers without
complaint and teaches nonsense. So it is asked about labelled images first, and where it does badly the likely
causes are tried out on some of them, so that the message can say which setting mends it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment  # comes with scikit-learn

from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.schemas.errors import DataError, TeacherError

Batch = tuple[np.ndarray, np.ndarray]

# Of what guessing leaves to be won, a teacher must win this much to count as knowing anything.
_ABOVE_CHANCE = 0.15
# Below this accuracy it is worth the time to look whether another setting does better.
_SUSPECT = 0.6
# Another setting is named where it scores so much more than what is set, and so much at all.
_MUCH_BETTER = 0.15
_GOOD = 0.35  # of what guessing leaves to be won
_KEPT_IMAGES = 512
_KEPT_NUMBERS = 40_000_000  # 40 MB of uint8
_STANDARD_ERRORS = 3


@dataclass(frozen=True)
class TeacherFit:
    """How a teacher does on labelled images.

    accuracy: share of images whose class it names first.
    chance: what naming the most frequent class for every image would score.
    loss: mean cross entropy in nats.
    images: how many it was asked about.
    hints: settings under which it would score much better, each as a sentence.
    """

    accuracy: float
    chance: float
    loss: float
    images: int
    hints: tuple[str, ...] = ()

    @property
    def near_chance(self) -> bool:
        """Whether the score is no more than guessing explains."""
        error = np.sqrt(self.chance * (1 - self.chance) / self.images)
        return self.accuracy < self.chance + max(_ABOVE_CHANCE * (1 - self.chance), _STANDARD_ERRORS * error)


def check_fit(
    teacher: LoadedTeacher,
    images: np.ndarray | Iterable[Batch],
    labels: np.ndarray | None = None,
    *,
    classes: int,
    insist: bool = False,
) -> TeacherFit:
    """Measure a teacher on labelled images, and refuse one that does not fit them.

    Args:
        images: [n, height, width, channels] uint8 with `labels`; or an iterable of batches (images, labels),
            of which a few hundred images are kept and the rest is only looked at once.
        labels: [n] integers in 0..classes-1.
        classes: the number of classes of the data.
        insist: return what a refusal for scoring near chance would have said among the hints instead. What
            does not fit at all (shape, number of classes, non-finite answers) is refused in any case.

    Raises:
        TeacherError: the teacher cannot be shown such images, has another number of classes, answers with
            NaN or infinity, or scores near chance.
        DataError: there are no images, or a label is out of range.
    """
    batches = iter(images) if labels is None else iter([(np.asarray(images), np.asarray(labels))])
    first = next(batches, None)
    if first is None or len(first[0]) == 0:
        raise DataError("the images to check the teacher on must be at least one; got none. Check the data.")
    teacher.check_examples(first[0].shape[1:])
    if teacher.classes != classes:
        raise _wrong_classes(teacher, first, classes)
    sample = _Sample()
    counts = np.zeros(classes, np.int64)
    right, loss = 0, 0.0
    for batch, truth in _chain(first, batches):
        _check_labels(batch, truth, classes)
        sample.add(batch, truth)
        logits = teacher.logits(batch)
        right += int((logits.argmax(axis=1) == truth).sum())
        loss += float(_cross_entropy(logits, truth).sum())
        counts += np.bincount(truth, minlength=classes)
    total = int(counts.sum())
    fit = TeacherFit(right / total, int(counts.max()) / total, loss / total, total)
    if fit.accuracy >= _SUSPECT and not fit.near_chance:
        return fit
    hints = _causes(teacher, *sample.arrays(), classes)
    if not fit.near_chance:
        return TeacherFit(fit.accuracy, fit.chance, fit.loss, total, hints)
    if not hints:
        hints = (
            "No other scaling, and no other order of its classes, does better: it may have been trained on "
            "other classes, or on images prepared in another way",
        )
    what = (
        f"teacher {teacher.path} must score above chance on the data; got {fit.accuracy:.3f} of {total} "
        f"images, where naming the most frequent class alone scores {fit.chance:.3f}"
    )
    if not insist:
        raise TeacherError(f"{what}. {'. '.join(hints)}. To go on all the same, set teacher.insist: true.")
    return TeacherFit(fit.accuracy, fit.chance, fit.loss, total, (what, *hints))


class _Sample:
    """The first few hundred of the images, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self._images: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._count = 0

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        limit = min(_KEPT_IMAGES, max(32, _KEPT_NUMBERS // int(np.prod(images.shape[1:]))))
        room = limit - self._count
        if room <= 0:
            return
        # Spread over the batch: an array of a whole split is often sorted by class.
        chosen = np.unique(np.linspace(0, len(images) - 1, min(room, len(images))).astype(int))
        self._images.append(images[chosen])
        self._labels.append(labels[chosen])
        self._count += len(chosen)

    def arrays(self) -> Batch:
        return np.concatenate(self._images), np.concatenate(self._labels)


def _causes(teacher: LoadedTeacher, images: np.ndarray, labels: np.ndarray, classes: int) -> tuple[str, ...]:
    """Try other scalings and class orders, and say which of them, if any, makes the teacher score."""
    tried: list[tuple[float, str]] = []
    now = _score(_answers(teacher, images), labels)
    others = teacher.opened.input.other_scalings(images.shape[1:], teacher.scaling)
    for scaling in (teacher.scaling, *others):
        other = scaling != teacher.scaling
        answers = _answers(teacher.with_scaling(scaling), images)
        score = _score(answers, labels)
        if other:
            text = f"With scaling '{scaling.name}' it scores {score:.2f}: set teacher.scaling: {scaling.name}"
            tried.append((score, text))
        if answers is None:
            continue
        ordered, order = best_class_order(answers, labels, teacher.classes, classes)
        # An order is worth saying only where it says more than the scaling alone does.
        if ordered > score + _MUCH_BETTER:
            own = _compose(teacher.class_order, order)
            reason = f"With scaling '{scaling.name}' and with" if other else "Its classes stand in another order: with"
            setting = f"teacher.scaling: {scaling.name} and " if other else ""
            text = f"{reason} class_order {own} it scores {ordered:.2f}: set {setting}teacher.class_order: {own}"
            tried.append((ordered, text))
    best = max(tried, key=lambda entry: entry[0], default=(0.0, ""))
    return (best[1],) if best[0] > max(_good(labels, classes), now + _MUCH_BETTER) else ()


def _score(answers: np.ndarray | None, labels: np.ndarray) -> float:
    return 0.0 if answers is None else float((answers == labels).mean())


def _good(labels: np.ndarray, classes: int) -> float:
    chance = float(np.bincount(labels, minlength=classes).max() / len(labels))
    return chance + _GOOD * (1 - chance)


def _answers(teacher: LoadedTeacher, images: np.ndarray) -> np.ndarray | None:
    """Name classes, or None where a scaling that is only tried out makes the teacher's numbers overflow."""
    logits = teacher.logits(images, must_be_finite=False)
    return logits.argmax(axis=1) if np.isfinite(logits).all() else None


def best_class_order(
    answers: np.ndarray, labels: np.ndarray, outputs: int, classes: int
) -> tuple[float, tuple[int, ...]]:
    """Find which output stands for which class: the assignment with the most answers in agreement.

    With many classes and few images some assignment always agrees well, by chance. So the score is that of
    halves of the images under the order found on the other half.

    Args:
        answers: [n] the outputs that were largest.
        labels: [n] classes.

    Returns:
        The share of images in agreement, and for each class the index of its output.

    Source: Kuhn, "The Hungarian method for the assignment problem" (1955).
    """
    halves = np.arange(len(answers)) % 2 == 0
    agree = 0
    for half in (halves, ~halves):
        order = np.array(_assignment(answers[half], labels[half], outputs, classes))
        agree += int((order[labels[~half]] == answers[~half]).sum())
    return agree / len(answers), _assignment(answers, labels, outputs, classes)


def _assignment(answers: np.ndarray, labels: np.ndarray, outputs: int, classes: int) -> tuple[int, ...]:
    table = np.zeros((classes, outputs))
    np.add.at(table, (labels, answers), 1)
    # Where the images decide nothing, a class keeps its own output.
    table[np.arange(classes), np.arange(classes)] += 0.5
    rows, columns = linear_sum_assignment(table, maximize=True)
    return tuple(int(column) for column in columns[np.argsort(rows)])


def _compose(set_order: tuple[int, ...] | None, order: tuple[int, ...]) -> list[int]:
    """Say an order of a teacher's logits in terms of its model's own outputs."""
    return [index if set_order is None else set_order[index] for index in order]


def _wrong_classes(teacher: LoadedTeacher, first: Batch, classes: int) -> TeacherError:
    what = (
        f"teacher {teacher.path} must have one output for each of the data's {classes} classes; got {teacher.classes}"
    )
    if teacher.classes < classes:
        return TeacherError(
            f"{what}. Use a teacher that was trained on all the classes, or leave classes out of the data."
        )
    sample = _Sample()
    sample.add(*first)
    images, labels = sample.arrays()
    _check_labels(images, labels, classes)
    answers = _answers(teacher, images)
    if answers is not None:
        score, order = best_class_order(answers, labels, teacher.classes, classes)
        if score > _good(labels, classes):
            total_order = _compose(teacher.class_order, order)
            return TeacherError(
                f"{what}. With class_order {total_order} it scores {score:.2f}: set teacher.class_order: {total_order}."
            )
    return TeacherError(
        f"{what}. Name the output of each class with teacher.class_order, or use a teacher trained on these classes."
    )


def _check_labels(images: np.ndarray, labels: np.ndarray, classes: int) -> None:
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"labels must be {len(images)} whole numbers, one for each image; got {labels.dtype} of shape "
            f"{list(labels.shape)}. Give class indices."
        )
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise DataError(
            f"labels must be in 0..{classes - 1}; got {labels.min()}..{labels.max()}. Check the number of classes."
        )


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    peak = logits.max(axis=1)
    total = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
    return total - logits[np.arange(len(labels)), labels]


def _chain(first: Batch, rest: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    yield from rest
