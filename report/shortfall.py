# SPDX-License-Identifier: Apache-2.0
"""Says when the chosen file falls short of its teacher, what limits it, and which setting to try.

The signs are read from the figures of the run: few training steps, few images, a larger or a float file that is
clearly better, students initialized at random. Several may hold at once. Only figures of the validation split are used,
since the advice leads to further choices.
"""

import math
from typing import NamedTuple

import numpy as np

from learn2compress.evaluation.examination.fit import chance_of, near_chance
from learn2compress.report.wording import format_percent
from learn2compress.schemas.reports import Candidate, Report
from learn2compress.schemas.units import format_bytes, format_points

FAR = 0.05  # drop in accuracy from the teacher that is worth a word
CLEAR = 0.02  # gain in accuracy of another file that points at what limits the chosen one
ENOUGH_STEPS = 2_000  # steps of joint training below which more of them are the first thing to try
ENOUGH_IMAGES = 200  # training images a class below which students initialized at random learn little


class Shortfall(NamedTuple):
    """A file that is much worse than its teacher, and why."""

    near_chance: bool
    finding: str
    causes: list[str]  # each with the setting to try

    def describe(self) -> str:
        """Writes the finding and the causes as one line."""
        return f"{self.finding} {' '.join(self.causes)}"


def find_shortfall(report: Report) -> Shortfall | None:
    """Compares the chosen file with chance and with its teacher.

    Args:
        report: Report of a finished run.

    Returns:
        The finding and its likely causes; None if the accuracy is close to the teacher's, or if nothing was chosen.
    """
    evaluation = report.evaluation
    measured = [c for c in evaluation.candidates if "validation" in c.figures and not c.baseline]
    chosen = next((c for c in measured if c.name == report.choice.chosen), None)
    if chosen is None:
        return None
    figures = chosen.figures["validation"]
    counts = np.asarray(report.data["per_class"]["validation"])
    chance = chance_of(counts) if counts.sum() else 1 / len(evaluation.task.classes)
    what = f"{figures.images:,} validation {evaluation.task.modality}s"
    share = f"{chosen.name} classifies {format_percent(figures.top1)} of {what} correctly"
    if near_chance(figures.top1, chance, figures.images):
        guessed = f"{share}; guessing the most frequent class would reach {format_percent(chance)}."
        return Shortfall(True, guessed, _causes(report, chosen, measured))
    teacher = evaluation.teacher.accuracy.get("validation") if evaluation.teacher else None
    if teacher is None:
        return None
    drop = teacher - figures.top1
    noise = 2 * math.sqrt(figures.top1 * (1 - figures.top1) / figures.images)
    if drop <= max(FAR, noise):
        return None
    return Shortfall(False, f"{share}, {format_points(drop)} less than its teacher.", _causes(report, chosen, measured))


def is_near_chance(report: Report) -> bool:
    """Tells whether the accuracy of the chosen file is no more than guessing explains."""
    shortfall = find_shortfall(report)
    return shortfall is not None and shortfall.near_chance


def _causes(report: Report, chosen: Candidate, measured: list[Candidate]) -> list[str]:
    causes = [_precision(chosen, measured), _size(chosen, measured), _steps(report), *_data(report)]
    found = [cause for cause in causes if cause]
    return found or ["What limits it is the size of the students: set larger students.sizes."]


def _precision(chosen: Candidate, measured: list[Candidate]) -> str | None:
    others = [c for c in measured if c.student == chosen.student and c.variant == "float32" and c is not chosen]
    if not others or _gain(others[0], chosen) <= CLEAR:
        return None
    return (
        f"8 bits: {others[0].name} is {format_points(_gain(others[0], chosen))} better; "
        "set quantize.mixed_precision: true."
    )


def _size(chosen: Candidate, measured: list[Candidate]) -> str | None:
    best = max(measured, key=lambda c: (c.figures["validation"].top1, -c.bytes))
    if best.student == chosen.student or _gain(best, chosen) <= CLEAR:
        return None
    return (
        f"Size: {best.name} ({format_bytes(best.bytes)}) is {format_points(_gain(best, chosen))} better; "
        "raise the limits of select, or choose it with `learn2compress pick OUT --objective accuracy_strict`."
    )


def _steps(report: Report) -> str | None:
    settings = report.config.get("distill", {})
    epochs = sum(epoch.stage == "distilled" for epoch in report.curves)
    batch = settings.get("batch_size")
    if not epochs or not isinstance(batch, int):
        return None
    a_pass = max(1, report.data["counts"]["train"] // batch)
    if a_pass * epochs >= ENOUGH_STEPS:
        return None
    what = f"{report.evaluation.task.modality}s"
    by_steps = settings.get("steps") is not None  # distill.epochs has no effect then
    more = f"distill.steps: {ENOUGH_STEPS}" if by_steps else f"distill.epochs: {math.ceil(ENOUGH_STEPS / a_pass)}"
    smaller = "" if by_steps else ", or a smaller distill.batch_size"
    return (
        f"Steps: the students were trained for about {a_pass * epochs:,} steps of {batch} {what}; set {more}{smaller}."
    )


def _data(report: Report) -> list[str]:
    counts, classes = report.data["per_class"]["train"], report.evaluation.task.classes
    fewest = min(range(len(counts)), key=counts.__getitem__)
    if counts[fewest] >= ENOUGH_IMAGES:
        return []
    what = f"{report.evaluation.task.modality}s"
    causes = [f"Data: class {classes[fewest]} has {counts[fewest]:,} training {what}; add {what}, or data.unlabeled."]
    begun = report.config.get("distill", {}).get("init"), report.config.get("students", {}).get("from")
    if report.evaluation.task.modality == "image" and begun in (("none", None), ("none", "built_in")):
        causes.append("Initialization: the students began at random; set distill.init: features.")
    return causes


def _gain(other: Candidate, chosen: Candidate) -> float:
    return other.figures["validation"].top1 - chosen.figures["validation"].top1
