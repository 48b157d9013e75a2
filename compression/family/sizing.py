# SPDX-License-Identifier: Apache-2.0
"""From the sizes asked for to a family: widths and exits solved from arithmetic, before anything is trained.

Students are placed smallest first. For each, every stretch of trunk and every tail of a finite grid is counted, and
the one taken that uses its budget best, among those whose compute grows in step with their size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from learn2compress.compression.family.spec import (
    WIDTH_STEP,
    Branch,
    Cost,
    FamilySpec,
    Stretch,
    branch_choices,
    family_costs,
    make_stem,
    segment_side,
    shared_parameters,
    stem_side,
)
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.units import format_bytes, format_count

# A size by name, as a share of the default large student's bytes.
NAMED_SIZES = {"tiny": 0.125, "small": 0.22, "medium": 0.5, "large": 1.0, "xlarge": 2.0}
COMFORTABLE_STEM = 32  # channels at the end of the stem: fewer starve the trunk, more cost all students
LEAST_SPREAD = 4.0  # in MACs, of sizes that are as far apart in bytes
COMFORTABLE_SPREAD = 4.2  # in MACs: what is sought
COMPUTE_EXPONENT = 0.7  # MACs grow at least as this power of bytes: larger students go deeper at fewer pixels
COMFORTABLE_FEATURES = 64  # before the logits: few tell few classes apart
TAIL_SHARE = 0.02  # of the largest student's MACs: what a tail may work before it is held to be dear
LEAST_STEP = 1.1  # from a student's bytes to the next one's: less is the same student twice
_MORE = (0.05, 0.1, 0.15, 0.2)  # that the exponent is raised by where the spread falls short
BYTES_A_CLASS = 200  # of the default large student, from the eleventh class on: logits of a width worth having


@dataclass(frozen=True)
class Budget:
    """What a student may weigh or work; exactly one of the two is set."""

    student: str
    int8_bytes: int | None = None
    macs: int | None = None

    def measure(self, cost: Cost) -> int:
        """The figure that the budget limits."""
        return cost.predicted_bytes if self.int8_bytes is not None else cost.macs

    @property
    def limit(self) -> int:
        """The most that it may be."""
        limit = self.int8_bytes if self.int8_bytes is not None else self.macs
        if limit is None:
            raise FamilyError(f"the budget of student {self.student!r} must be bytes or MACs; got neither. Give one.")
        return limit

    def show(self, value: float) -> str:
        """The value with its unit, to the last digit: whoever is told what is feasible may ask for just that."""
        return f"{value:,} {'B' if self.int8_bytes is not None else 'MACs'}"


def label_bytes(classes: Sequence[str]) -> int:
    """Bytes of the classes' names in a file: a line each."""
    return sum(len(name.encode()) + 1 for name in classes)


def default_large_bytes(input_shape: tuple[int, int, int], classes: int) -> int:
    """Bytes of the default large student: 3 KB for each pixel of the image's side, and room for many classes."""
    side = math.sqrt(input_shape[0] * input_shape[1])
    return int(3000 * min(max(side, 12), 256) + BYTES_A_CLASS * max(0, classes - 10))


def resolve_budgets(
    sizes: Mapping[str, StudentSize], input_shape: tuple[int, int, int], classes: int, labels: int = 0
) -> tuple[Budget, ...]:
    """Turns names and multipliers into bytes.

    Raises:
        FamilyError: A name alone that is no known size, or fewer than two students.
    """
    if len(sizes) < 2:
        raise FamilyError(f"students.sizes must name at least two students; got {len(sizes)}. Add a second size.")
    large = default_large_bytes(input_shape, classes)
    budgets = []
    for name, size in sizes.items():
        if size.size_bytes is not None:
            budgets.append(Budget(name, int8_bytes=size.size_bytes))
        elif size.macs is not None:
            budgets.append(Budget(name, macs=size.macs))
        else:
            multiplier = size.multiplier if size.multiplier is not None else NAMED_SIZES.get(name)
            if multiplier is None:
                raise FamilyError(
                    f"student {name!r} must be one of {', '.join(NAMED_SIZES)} or have a size; got a name alone. "
                    f"Write {name}: {{size_bytes: 24KB}}."
                )
            budgets.append(Budget(name, int8_bytes=int(multiplier * large) + labels))
    return tuple(budgets)


class _Infeasible(FamilyError):
    """A student that no branch of a stem suits.

    Attributes:
        order: How many students could not be placed, and how far the budget is off: the least is worth saying.
    """

    def __init__(self, budget: Budget, nearest: float, before: str | None, left: int) -> None:
        self.order = (left, nearest / budget.limit)
        beside = f" beside {before!r}, whose trunk it continues and which it must outgrow" if before else ""
        super().__init__(
            f"student {budget.student!r} must be feasible within {budget.show(budget.limit)}{beside}; the nearest "
            f"feasible is {budget.show(nearest)}. Raise its budget or leave it out."
        )


def solve_family(
    sizes: Mapping[str, StudentSize], input_shape: tuple[int, int, int], classes: int, labels: int = 0
) -> FamilySpec:
    """Finds the family that fits the sizes.

    Args:
        sizes: By student; in any order if all are bytes or all are MACs, else smallest first.
        input_shape: (height, width, channels) of an image.
        classes: Number of classes, at least two.
        labels: Bytes of their names, see `label_bytes`.

    Returns:
        A family whose students stay within their budgets and use at least nine tenths of them where that is possible.

    Raises:
        FamilyError: A budget is below the smallest student, or too near the one before it; the nearest feasible is
            named. Or there are fewer than two students or classes, or a name that is no known size.
    """
    if classes < 2:
        raise FamilyError(
            f"a classifier must have at least two classes; got {classes}. Add a second class to the data."
        )
    budgets = resolve_budgets(sizes, input_shape, classes, labels)
    if len({budget.int8_bytes is None for budget in budgets}) == 1:
        budgets = tuple(sorted(budgets, key=lambda b: b.limit))
    exponent = _compute_exponent(budgets)
    spec = _solve(budgets, exponent, input_shape, classes, labels)
    # The grid is coarse: where compute should grow just enough, it may fall a little short.
    for more in _MORE if _should_spread(budgets) else ():
        if check_spread(spec)[1] >= LEAST_SPREAD:
            break
        spec = _solve(budgets, exponent + more, input_shape, classes, labels)
    return spec


def _solve(
    budgets: tuple[Budget, ...], exponent: float, input_shape: tuple[int, int, int], classes: int, labels: int
) -> FamilySpec:
    """The best family over all widths of the stem, if compute is to grow as that power of bytes."""
    solved: list[tuple[float, FamilySpec]] = []
    failures: list[_Infeasible] = []
    for width in range(WIDTH_STEP, 6 * WIDTH_STEP + 1, WIDTH_STEP):
        empty = FamilySpec(input_shape, classes, make_stem(input_shape, width), (), labels)
        try:
            score, spec = _grow(empty, budgets, exponent)
        except _Infeasible as error:
            failures.append(error)
        else:
            solved.append((score + 0.3 * abs(math.log2(width / COMFORTABLE_STEM)), spec))
    if not solved:
        raise min(failures, key=lambda failure: failure.order)
    return min(solved, key=lambda pair: pair[0])[1]


def _grow(spec: FamilySpec, budgets: tuple[Budget, ...], exponent: float) -> tuple[float, FamilySpec]:
    """Places the students on a stem, smallest first; returns their scores' sum (less is better) and the family."""
    side, total = stem_side(spec.input_shape, spec.stem), 0.0
    costs: list[Cost] = []
    trunk = Stretch(spec.input_shape).then(spec.stem)
    for index, budget in enumerate(budgets):
        choices: list[tuple[float, Branch, Cost]] = []
        nearest = math.inf
        branches = branch_choices(budget.student, index, side, trunk.shape[2])
        for _, group in groupby(branches, key=lambda branch: branch.segment[0].filters):
            least = math.inf
            for branch in group:
                cost = trunk.then((*branch.segment, *branch.tail)).cost(spec.classes, spec.label_bytes)
                measure = budget.measure(cost)
                least = min(least, measure)
                if costs and not _outgrows(cost, costs[-1]):
                    continue
                nearest = min(nearest, measure)
                if measure <= budget.limit:
                    last = index == len(budgets) - 1
                    score = _score(budget, cost, branch, side, costs[0] if costs else None, last, exponent)
                    if not last:
                        # What is not of the trunk is what joint training costs beside the largest student.
                        tail = cost.macs - trunk.then(branch.segment).macs
                        score += 5 * max(0.0, tail / _expected_macs(budget, cost, budgets[-1], exponent) - TAIL_SHARE)
                    choices.append((score, branch, cost))
            if least > budget.limit and least > nearest:
                break  # wider ones only cost more
        if not choices:
            raise _Infeasible(budget, nearest, spec.students[-1] if costs else None, len(budgets) - index)
        score, branch, cost = min(choices, key=lambda choice: choice[0])
        total += score
        spec = replace(spec, branches=(*spec.branches, branch))
        side, trunk = segment_side(side, branch), trunk.then(branch.segment)
        costs.append(cost)
    return total, spec


def _outgrows(cost: Cost, before: Cost) -> bool:
    """Whether a student is another one than the one before it, and not the same once more."""
    return cost.predicted_bytes >= LEAST_STEP * before.predicted_bytes and cost.macs > before.macs


def _should_spread(budgets: Sequence[Budget]) -> bool:
    """Whether the sizes are far enough apart in bytes for the students to be as far apart in compute."""
    smallest, largest = budgets[0].int8_bytes, budgets[-1].int8_bytes
    return smallest is not None and largest is not None and largest >= LEAST_SPREAD * smallest


def _compute_exponent(budgets: Sequence[Budget]) -> float:
    """The power of bytes as which MACs grow: enough for the largest to work several times what the smallest does.

    Each student in between grows by it, too: the last one cannot make up for what those before it left out.
    """
    if not _should_spread(budgets):
        return COMPUTE_EXPONENT
    return max(COMPUTE_EXPONENT, math.log(COMFORTABLE_SPREAD) / math.log(budgets[-1].limit / budgets[0].limit))


def _expected_macs(budget: Budget, cost: Cost, largest: Budget, exponent: float) -> float:
    """What the largest student will work, if its compute grows as it should."""
    if (budget.macs is None) != (largest.macs is None):
        return cost.macs
    return cost.macs * (largest.limit / budget.limit) ** (exponent if largest.macs is None else 1.0)


def _score(
    budget: Budget, cost: Cost, branch: Branch, side: int, smallest: Cost | None, last: bool, exponent: float
) -> float:
    """Less is better: an unused budget, a shallow or a very deep segment, compute out of step with size."""
    unused = math.log(budget.limit / budget.measure(cost))
    score = 10 * max(0.0, unused - 0.05) + unused
    score += 0.05 * abs(len(branch.segment) - 3) + 0.1 * (len(branch.segment) < 2)
    score += 0.2 * max(0.0, math.log2(COMFORTABLE_FEATURES / branch.tail[-1].filters))
    if smallest is not None:
        growth = math.log(cost.predicted_bytes / smallest.predicted_bytes)
        compute = math.log(cost.macs / smallest.macs)
        score += 0.6 * abs(compute - exponent * growth)
        if last:
            score += 20 * max(0.0, math.log(COMFORTABLE_SPREAD) - compute)
    else:
        # All others build on the first student: it works where the trunk begins, not at a few pixels.
        score += 0.2 * abs(math.log(cost.macs / (0.7 * side**2 * cost.parameters)))
    return score


def check_spread(spec: FamilySpec) -> tuple[float, float]:
    """How many times the largest student is the smallest, in predicted bytes and in MACs."""
    costs = list(family_costs(spec).values())
    return costs[-1].predicted_bytes / costs[0].predicted_bytes, costs[-1].macs / costs[0].macs


def describe_family(spec: FamilySpec) -> str:
    """A table for a person: what each student will weigh and work, before it is trained."""
    rows = [("student", "parameters", "int8 file, about", "MACs")]
    for name, cost in family_costs(spec).items():
        rows.append((name, f"{cost.parameters:,}", format_bytes(cost.predicted_bytes), format_count(cost.macs)))
    family, apart = shared_parameters(spec)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([*table, f"together {family:,} parameters, for they share; apart they would have {apart:,}"])
