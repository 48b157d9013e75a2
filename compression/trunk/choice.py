# SPDX-License-Identifier: Apache-2.0
"""Chooses exits and input size for the requested sizes, from the table of measured exits.

For a budget, each exit is a candidate that fits, or exceeds the budget by no more than `SLACK`: the excess is removed
from the channels of the trunk and the tail before training (narrowing.py). The deepest candidate is chosen whose probe
is not clearly worse than the best one. If there is none, channels of a tail are left out at once, by their contribution
to the probe.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from learn2compress.compression.family.spec import Cost
from learn2compress.compression.trunk.exits import Exit
from learn2compress.compression.trunk.plan import ExitTable, MeasuredExit, Shape, Trunk, student_cost
from learn2compress.compression.trunk.probes import Probe, fit_probe
from learn2compress.compression.trunk.spec import StepCost, TrunkSpec, TrunkStudent
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.units import format_bytes, format_count

NAMED_SIZES = {"tiny": 1 / 48, "small": 1 / 24, "medium": 1 / 11, "large": 1 / 6, "xlarge": 1 / 3}
"""Named sizes as fractions of the bytes of the teacher's trunk in int8."""
SLACK = 0.3
"""Fraction of a budget by which an exit may exceed it, to be removed channel by channel."""
STANDARD_ERRORS = 2
"""Standard errors by which a deeper exit may be less accurate than the best, and within which input sizes are alike."""
CHANNEL_STEP = 8
LEAST_CHANNELS = 32
MARGIN = 0.01
"""Fraction of a budget in bytes that is left free, since bytes are predicted."""
REFERENCE = 0.7
"""Side of the students' images, as a fraction of the teacher's, where the probes of few images do not tell."""
GOOD_ENOUGH = 0.02
"""Fraction by which the probes' error at a smaller input size may exceed the least one: it saves time in every step."""


@dataclass(frozen=True)
class Budget:
    """The limit of a student: bytes of its int8 file, MACs, or none if its exit is named."""

    student: str
    int8_bytes: int | None = None
    macs: int | None = None
    exit: str | None = None

    def allows(self, cost: Cost) -> bool:
        """Tell whether a cost is within the limit."""
        if self.int8_bytes is not None:
            return cost.predicted_bytes <= self.int8_bytes * (1 - MARGIN)
        return self.macs is None or cost.macs <= self.macs

    def measure(self, cost: Cost) -> int:
        """Return the cost that is limited."""
        return cost.predicted_bytes if self.int8_bytes is not None else cost.macs

    def widened(self, factor: float) -> "Budget":
        """Return a budget that allows more by a factor."""
        return Budget(
            self.student,
            None if self.int8_bytes is None else int(self.int8_bytes * factor),
            None if self.macs is None else int(self.macs * factor),
            self.exit,
        )

    def __str__(self) -> str:
        if self.exit is not None:
            return f"the exit {self.exit}"
        return format_bytes(self.int8_bytes) if self.int8_bytes is not None else f"{format_count(self.macs or 0)} MACs"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A student at an exit: number of channels of its tail, cost, and probe on these channels."""

    measured: MeasuredExit
    kept: tuple[int, ...] | None
    cost: Cost
    probe: Probe


def budgets_of(sizes: Mapping[str, StudentSize], whole: Cost) -> list[Budget]:
    """Convert sizes to budgets, smallest first.

    Args:
        sizes: Sizes by name.
        whole: Cost of the teacher's whole trunk.

    Raises:
        FamilyError: A size has neither a known name nor a number.
    """
    budgets = []
    for name, size in sizes.items():
        if size.size_bytes is not None or size.macs is not None or size.exit is not None:
            budgets.append(Budget(name, size.size_bytes, size.macs, size.exit))
            continue
        if size.multiplier is None and name not in NAMED_SIZES:
            raise FamilyError(
                f"students.sizes.{name} must have a size, unless its name is one of {', '.join(NAMED_SIZES)}. "
                "Write for example {size_bytes: 150KB}."
            )
        fraction = NAMED_SIZES["large"] * size.multiplier if size.multiplier is not None else NAMED_SIZES[name]
        budgets.append(Budget(name, int(fraction * whole.predicted_bytes)))
    return sorted(budgets, key=lambda budget: (budget.int8_bytes or 0, budget.macs or 0))


def check_budgets(
    trunk: Trunk, budgets: Sequence[Budget], costs: Mapping[str, Sequence[StepCost]], classes: int, label_bytes: int
) -> None:
    """Check by arithmetic that an exit fits each budget.

    Raises:
        FamilyError: A budget is below the smallest exit.
    """
    exits = [one for one in trunk.exits if one.name in costs]
    for budget in budgets:
        if budget.exit is not None:
            _check_exit(budget, [one.name for one in exits])
            continue
        if not any(_channels(one, costs[one.name], budget, classes, label_bytes) for one in exits):
            smallest = min(
                (student_cost(one, costs[one.name], classes, label_bytes) for one in exits),
                key=lambda cost: cost.predicted_bytes if budget.int8_bytes is not None else cost.macs,
            )
            least = format_bytes(smallest.predicted_bytes) if budget.int8_bytes else format_count(smallest.macs)
            raise FamilyError(
                f"students.sizes.{budget.student} must be at least that of the teacher's smallest exit, {least}; got "
                f"{budget}. Raise it, reduce students.input, or set students.from: built_in."
            )


def _check_exit(budget: Budget, names: Sequence[str]) -> None:
    if budget.exit not in names:
        near = difflib.get_close_matches(budget.exit or "", names, 3, 0) or list(names[:3])
        raise FamilyError(
            f"students.sizes.{budget.student}.exit must be an exit of the teacher at this input size; got "
            f"{budget.exit!r}. The nearest are {', '.join(near)}; `learn2compress plan` lists them all."
        )


def choose_students(
    table: ExitTable, budgets: Sequence[Budget], slack: float = SLACK
) -> tuple[TrunkSpec, dict[str, Probe]]:
    """Choose the input size, and an exit for each student.

    Args:
        table: The measured exits.
        budgets: Budgets of the students.
        slack: Fraction of a budget by which an exit may exceed it.

    Returns:
        The specification, smallest student first, and each student's probe, which begins its logits layer.

    Raises:
        FamilyError: A budget is below the smallest exit at each input size.
    """
    by_side: dict[Shape, dict[str, Candidate]] = {}
    failure: FamilyError | None = None
    for shape, rows in table.sides.items():
        costs = {row.exit.name: row.costs for row in rows}
        try:
            check_budgets(table.trunk, budgets, costs, table.classes, table.label_bytes)
        except FamilyError as error:
            failure = failure or error
            continue
        by_side[shape] = {budget.student: _best(table, rows, budget, slack) for budget in budgets}
    if not by_side:
        assert failure is not None
        raise failure
    errors = {shape: np.mean([one.probe.errors for one in found.values()], axis=0) for shape, found in by_side.items()}
    reference = reference_side(list(errors), min(table.trunk.shape[:2]))
    shape = choose_side(errors, reference)
    chosen = dict(sorted(by_side[shape].items(), key=lambda item: (item[1].cost.predicted_bytes, item[1].cost.macs)))
    students = tuple(
        TrunkStudent(name, one.measured.exit.name, one.measured.exit.layer, one.measured.exit.tail, one.kept)
        for name, one in chosen.items()
    )
    why = [_why_side(shape, reference, errors)] if len(table.sides) > 1 else []
    why += [_why(name, one, {b.student: b for b in budgets}[name]) for name, one in chosen.items()]
    spec = TrunkSpec(shape, table.classes, table.label_bytes, students, tuple(why))
    return spec, {name: one.probe for name, one in chosen.items()}


def reference_side(shapes: Sequence[Shape], teachers: int) -> Shape:
    """Find the input size next to `REFERENCE` of the teacher's.

    Args:
        shapes: Input sizes.
        teachers: The smaller side of the teacher's images.
    """
    return min(shapes, key=lambda shape: (abs(min(shape[:2]) - REFERENCE * teachers), shape))


def choose_side(errors: Mapping[Shape, np.ndarray], reference: Shape) -> Shape:
    """Choose the input size of the students.

    It is that of reference, unless the images tell that another one is better, or as good and smaller, beyond
    `STANDARD_ERRORS` of the differences, image by image.

    Args:
        errors: Squared errors of the probes at each input size, [images] each.
        reference: The size where images do not tell.
    """

    def mean(shape: Shape) -> float:
        return float(errors[shape].mean())

    allowed = [reference]
    for shape, values in errors.items():
        differences = values - errors[reference]
        surely = differences.mean() + STANDARD_ERRORS * differences.std() / math.sqrt(len(differences))
        if shape != reference and surely <= (GOOD_ENOUGH * mean(reference) if shape < reference else 0):
            allowed.append(shape)
    least = min(map(mean, allowed))
    return min(shape for shape in allowed if mean(shape) <= least * (1 + GOOD_ENOUGH))


def _best(table: ExitTable, rows: Sequence[MeasuredExit], budget: Budget, slack: float) -> Candidate:
    """Choose the deepest exit whose probe is not clearly worse than the best: more layers gain more by training."""
    candidates = _candidates(table, rows, budget, slack)
    best = max(one.probe.accuracy for one in candidates)
    least = best - STANDARD_ERRORS * math.sqrt(best * (1 - best) / len(table.labels))
    alike = [one for one in candidates if one.probe.accuracy >= least]
    return max(alike, key=lambda one: (one.measured.exit.steps, one.probe.accuracy, one.cost.predicted_bytes))


def _candidates(table: ExitTable, rows: Sequence[MeasuredExit], budget: Budget, slack: float) -> list[Candidate]:
    """List the exits for a budget: those within reach of removing channels, else those with a part of their tail."""
    if budget.exit is not None:
        return [Candidate(row, None, table.cost(row), row.probe) for row in rows if row.exit.name == budget.exit]
    reachable = budget.widened(1 + slack) if slack else budget
    found = [Candidate(row, None, cost, row.probe) for row in rows if reachable.allows(cost := table.cost(row))]
    if found:
        return found
    for row in rows:
        channels = _channels(row.exit, row.costs, budget, table.classes, table.label_bytes)
        if not channels:
            continue
        cost = table.cost(row, channels)
        kept = np.sort(np.argsort(-row.probe.importance, kind="stable")[:channels])
        probe = fit_probe(row.features[:, kept], table.logits, table.labels)
        found.append(Candidate(row, tuple(kept.tolist()), cost, probe))
    return found


def _channels(place: Exit, costs: Sequence[StepCost], budget: Budget, classes: int, label_bytes: int) -> int:
    """Compute how many channels of an exit fit a budget; 0 if the exit does not fit."""
    if budget.allows(student_cost(place, costs, classes, label_bytes)):
        return place.channels
    if not place.trims:
        return 0
    for channels in range(place.channels // CHANNEL_STEP * CHANNEL_STEP, LEAST_CHANNELS - 1, -CHANNEL_STEP):
        if budget.allows(student_cost(place, costs, classes, label_bytes, channels)):
            return channels
    return 0


def _why_side(shape: Shape, reference: Shape, errors: Mapping[Shape, np.ndarray]) -> str:
    listed = ", ".join(f"{height}x{width} {values.mean():.3f}" for (height, width, _), values in errors.items())
    other = f"{reference[0]}x{reference[1]}, the size next to {REFERENCE:g} of the teacher's"
    if shape == reference:
        why = f"next to {REFERENCE:g} of the teacher's; by the linear probes no other size is surely better"
    elif shape < reference:
        why = f"by the linear probes surely no worse than {other}"
    else:
        why = f"by the linear probes surely better than {other}"
    return f"input {shape[0]}x{shape[1]}: {why} (squared error of the logits, relative to their variance: {listed})"


def _why(name: str, one: Candidate, budget: Budget) -> str:
    measured = one.measured.exit
    channels = f"{len(one.kept)} of {measured.channels}" if one.kept else f"{measured.channels}"
    return (
        f"{name}: the teacher up to {measured.name}, {channels} channels; linear probe {one.probe.accuracy:.1%}; "
        f"{format_bytes(one.cost.predicted_bytes)} in int8 and {format_count(one.cost.macs)} MACs before channels are "
        f"removed to {budget}"
    )
