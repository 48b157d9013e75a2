# SPDX-License-Identifier: Apache-2.0
"""Judging whether a teacher fits the data: that it scores, and if it does not, why not.

A teacher that is shown pixels in another range, or whose classes stand in another order, computes without complaint and
teaches nonsense. So its accuracy is measured on labelled images first, and the likely causes of a low one are tried out
on some of them, so that the message can say which setting mends it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.evaluation.examination.fit import (
    MUCH_BETTER,
    SUSPECT,
    best_class_order,
    best_reading,
    chance_of,
    clearly_better,
    cross_entropy,
    good_score,
    near_chance,
    read_scores,
)
from learn2compress.schemas.errors import DataError, TeacherError

__all__ = ["TeacherFit", "best_class_order", "check_fit"]

Batch = tuple[np.ndarray, np.ndarray]

_KEPT_IMAGES = 512
_KEPT_NUMBERS = 40_000_000  # 40 MB of uint8
_TRIED_IMAGES = 128  # of those, where nothing speaks against the present setting


@dataclass(frozen=True)
class TeacherFit:
    """How a teacher does on labelled images.

    accuracy: share of images whose class it names first.
    chance: what naming the most frequent class for every image would score.
    loss: mean cross entropy in nats.
    images: how many it was measured on.
    passes: forward passes that this took, in images: other settings are tried on some of them.
    hints: settings under which it would score much better, each as a sentence.
    """

    accuracy: float
    chance: float
    loss: float
    images: int
    hints: tuple[str, ...] = ()
    passes: int = 0

    @property
    def near_chance(self) -> bool:
        """Whether the score is no more than guessing explains."""
        return near_chance(self.accuracy, self.chance, self.images)


def check_fit(
    teacher: LoadedTeacher,
    images: np.ndarray | Iterable[Batch],
    labels: np.ndarray | None = None,
    *,
    classes: int,
    allow_near_chance: bool = False,
) -> TeacherFit:
    """Measure a teacher on labelled images, and refuse one that does not fit them.

    Args:
        images: [n, height, width, channels] uint8 with `labels`; or an iterable of batches (images, labels),
            of which a few hundred images are kept and the rest is only looked at once.
        labels: [n] integers in 0..classes-1.
        classes: the number of classes of the data.
        allow_near_chance: return the reasons against a score near chance among the hints instead of refusing it. What
            does not fit at all (shape, number of classes, non-finite outputs) is refused in any case.

    Raises:
        TeacherError: the teacher cannot be shown such images, has another number of classes, answers with
            NaN or infinity, or scores near chance.
        DataError: there are no images, or a label is out of range.
    """
    batches = iter(images) if labels is None else iter([(np.asarray(images), np.asarray(labels))])
    first = next(batches, None)
    if first is None or len(first[0]) == 0:
        raise DataError("the examples to check the teacher on must be at least one; got none. Check the data.")
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
        loss += float(cross_entropy(logits, truth).sum())
        counts += np.bincount(truth, minlength=classes)
    total = int(counts.sum())
    fit = TeacherFit(right / total, int(counts.max()) / total, loss / total, total)
    suspect = fit.near_chance or fit.accuracy < SUSPECT
    hints, tried = _causes(teacher, *sample.arrays(None if suspect else _TRIED_IMAGES), classes, suspect)
    fit = replace(fit, hints=hints, passes=total + tried)
    if not fit.near_chance:
        return fit
    if not hints:
        hints = (
            "No other scaling, and no other order of its classes, does better: it may have been trained on "
            "other classes, or on examples prepared in another way",
        )
    what = (
        f"teacher {teacher.path} must score above chance on the data; got {fit.accuracy:.3f} of {total} "
        f"examples, where naming the most frequent class alone scores {fit.chance:.3f}"
    )
    if not allow_near_chance:
        raise TeacherError(
            f"{what}. {'. '.join(hints)}. To continue all the same, set teacher.allow_near_chance: true."
        )
    return replace(fit, hints=(what, *hints))


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

    def arrays(self, most: int | None = None) -> Batch:
        """Returns what was kept, or an even choice of at most so many."""
        images, labels = np.concatenate(self._images), np.concatenate(self._labels)
        if most is None or len(labels) <= most:
            return images, labels
        chosen = np.linspace(0, len(labels) - 1, most).astype(int)
        return images[chosen], labels[chosen]


def _causes(
    teacher: LoadedTeacher, images: np.ndarray, labels: np.ndarray, classes: int, suspect: bool
) -> tuple[tuple[str, ...], int]:
    """Try other scalings and class orders, and say which of them, if any, makes the teacher score better.

    Scalings that score alike are told apart by their cross-entropy. Another order is looked for only where the score
    is suspect; above that, another scaling is named where its advantage is more than chance explains.

    Returns:
        The sentence, if there is one, and the number of forward passes.
    """
    others = list(teacher.opened.input.other_scalings(images.shape[1:], teacher.scaling))
    passes = (1 + len(others)) * len(labels)
    present = _finite_logits(teacher, images)
    tried = {str(one.name): _finite_logits(teacher.with_scaling(one), images) for one in others}
    finite = {name: logits for name, logits in tried.items() if logits is not None}
    now = None if present is None else read_scores(present, labels)
    score = now.accuracy if now else 0.0
    enough = max(good_score(_chance(labels, classes)), score + MUCH_BETTER)
    readings = {name: read_scores(logits, labels) for name, logits in finite.items()}
    best = best_reading(readings)
    found, text = 0.0, ""
    if best is not None:
        other = readings[best]
        if other.accuracy > enough or (not suspect and now is not None and clearly_better(other, now)):
            found = other.accuracy
            text = f"With scaling '{best}' it scores {found:.2f}: set teacher.scaling: {best}"
    if suspect:
        candidates: dict[str | None, np.ndarray] = {} if present is None else {None: present}
        candidates.update(finite)
        ordered, sentence = _other_order(teacher, candidates, labels, classes)
        if ordered > max(enough, found):
            text = sentence
    return ((text,) if text else ()), passes


def _other_order(
    teacher: LoadedTeacher, tried: Mapping[str | None, np.ndarray], labels: np.ndarray, classes: int
) -> tuple[float, str]:
    """Find the scaling, None for the present one, and the order of classes with which the teacher scores best."""
    best, text = 0.0, ""
    for name, logits in tried.items():
        answers = logits.argmax(axis=1)
        ordered, order = best_class_order(answers, labels, teacher.classes, classes)
        # An order is worth saying only where it says more than the scaling alone does.
        if ordered > max(best, float((answers == labels).mean()) + MUCH_BETTER):
            own = _compose(teacher.class_order, order)
            reason = f"With scaling '{name}' and with" if name else "Its classes stand in another order: with"
            setting = f"teacher.scaling: {name} and " if name else ""
            best = ordered
            text = f"{reason} class_order {own} it scores {ordered:.2f}: set {setting}teacher.class_order: {own}"
    return best, text


def _finite_logits(teacher: LoadedTeacher, images: np.ndarray) -> np.ndarray | None:
    """Compute logits, or None where a scaling that is only tried out makes the teacher's numbers overflow."""
    logits = teacher.logits(images, must_be_finite=False)
    return logits if np.isfinite(logits).all() else None


def _chance(labels: np.ndarray, classes: int) -> float:
    return chance_of(np.bincount(labels, minlength=classes))


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
    logits = _finite_logits(teacher, images)
    if logits is not None:
        score, order = best_class_order(logits.argmax(axis=1), labels, teacher.classes, classes)
        if score > good_score(_chance(labels, classes)):
            total_order = _compose(teacher.class_order, order)
            return TeacherError(
                f"{what}. With class_order {total_order} it scores {score:.2f}: set teacher.class_order: {total_order}."
            )
    return TeacherError(
        f"{what}. Name the output of each class with teacher.class_order, leave out a background class with "
        "teacher.skip_class, or use a teacher trained on these classes."
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


def _chain(first: Batch, rest: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    yield from rest
