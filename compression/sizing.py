# SPDX-License-Identifier: Apache-2.0
"""From the sizes asked for to a family: widths and exits solved from arithmetic, before anything is trained.

Students are placed smallest first. For each, every stretch of trunk and every tail of a finite grid is counted, and
the one taken that uses its budget best, among those whose compute grows in step with their size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from learn2compress.compression.family import (
    WIDTH_STEP,
    Branch,
    Cost,
    FamilySpec,
    branch_choices,
    family_costs,
    make_stem,
    segment_side,
    stem_side,
    student_cost,
)
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.units import format_bytes, format_count

# A size by name, as a share of the default large student's bytes.
NAMED_SIZES = {"tiny": 0.125, "small": 0.22, "medium": 0.5, "large": 1.0, "xlarge": 2.0}
COMFORTABLE_STEM = 24  # channels at the end of the stem: fewer starve the trunk, more cost all students
LEAST_SPREAD = 4.0  # of the default sizes, in bytes and in MACs


@dataclass(frozen=True)
class Budget:
    """What a student may weigh or work; exactly one of the two is set."""

    student: str
    int8_bytes: int | None = None
    macs: int | None = None

    def measure(self, cost: Cost) -> int:
        """The figure that the budget limits."""
        return cost.int8_bytes if self.int8_bytes is not None else cost.macs

    @property
    def limit(self) -> int:
        """The most that it may be."""
        return self.int8_bytes if self.int8_bytes is not None else self.macs

    def show(self, value: int) -> str:
        """The value with its unit."""
        return format_bytes(value) if self.int8_bytes is not None else f"{format_count(value)} MACs"


def default_large_bytes(input_shape: tuple[int, int, int], classes: int) -> int:
    """Bytes of the default large student: 3 KB for each pixel of the image's side, and room for many classes."""
    side = math.sqrt(input_shape[0] * input_shape[1])
    return int(3000 * min(max(side, 12), 256) + 64 * max(0, classes - 10))


def resolve_budgets(
    sizes: Mapping[str, StudentSize], input_shape: tuple[int, int, int], classes: int
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
            budgets.append(Budget(name, int8_bytes=int(multiplier * large)))
    return tuple(budgets)


def solve_family(sizes: Mapping[str, StudentSize], input_shape: tuple[int, int, int], classes: int) -> FamilySpec:
    """Finds the family that fits the sizes.

    Args:
        sizes: By student; any order, they are sorted by what they come to.
        input_shape: (height, width, channels) of an image.
        classes: Number of classes, at least two.

    Returns:
        A family whose students stay within their budgets and use at least nine tenths of them where that is possible.

    Raises:
        FamilyError: A budget is below the smallest student, or too near the one before it; the nearest feasible is
        named.
    """
    if classes < 2:
        raise FamilyError(
            f"a classifier must have at least two classes; got {classes}. Add a second class to the data."
        )
    budgets = resolve_budgets(sizes, input_shape, classes)
    if len({budget.int8_bytes is None for budget in budgets}) == 1:
        budgets = tuple(sorted(budgets, key=lambda b: b.limit))
    best: tuple[float, FamilySpec] | None = None
    failure: FamilyError | None = None
    for width in range(WIDTH_STEP, 6 * WIDTH_STEP + 1, WIDTH_STEP):
        try:
            score, spec = _grow(make_stem(input_shape, width), budgets, input_shape, classes)
        except FamilyError as error:
            failure = failure or error
            continue
        score += 0.1 * abs(math.log2(width / COMFORTABLE_STEM))
        if best is None or score < best[0]:
            best = score, spec
    if best is None:
        raise failure
    return best[1]


def _grow(stem, budgets: tuple[Budget, ...], input_shape, classes: int) -> tuple[float, FamilySpec]:
    """Places the students on one stem, smallest first; returns their scores' sum (less is better) and the family."""
    spec = FamilySpec(input_shape, classes, stem, ())
    side, width, total = stem_side(input_shape, stem), stem[-1].filters, 0.0
    smallest: Cost | None = None
    for index, budget in enumerate(budgets):
        best: tuple[float, Branch] | None = None
        least: int | None = None
        for branch in branch_choices(budget.student, index, side, width):
            cost = student_cost(replace(spec, branches=(*spec.branches, branch)), budget.student)
            measure = budget.measure(cost)
            least = measure if least is None else min(least, measure)
            if measure > budget.limit:
                continue
            score = _score(budget, cost, branch, smallest, last=index == len(budgets) - 1)
            if best is None or score < best[0]:
                best = score, branch
        if best is None:
            raise FamilyError(_too_small(budget, least, spec))
        total += best[0]
        spec = replace(spec, branches=(*spec.branches, best[1]))
        side, width = segment_side(side, best[1]), best[1].segment[-1].filters
        smallest = smallest or student_cost(spec, budget.student)
    return total, spec


def _score(budget: Budget, cost: Cost, branch: Branch, smallest: Cost | None, last: bool) -> float:
    """Less is better: an unused budget, a shallow or a very deep segment, compute out of step with size."""
    unused = math.log(budget.limit / budget.measure(cost))
    score = 10 * max(0.0, unused - 0.05) + unused
    score += 0.02 * abs(len(branch.segment) - 3)
    if smallest is not None:
        growth = math.log(cost.int8_bytes / smallest.int8_bytes)
        compute = math.log(cost.macs / smallest.macs)
        score += 0.3 * max(0.0, growth - compute) + 0.1 * max(0.0, compute - 1.5 * growth)
        if last:
            score += 5 * max(0.0, math.log(LEAST_SPREAD) - compute)
    else:
        # The first student's compute is everybody's: what it spends there the larger ones spend too.
        score += 0.1 * math.log(cost.macs / cost.parameters)
    return score


def _too_small(budget: Budget, least: int, spec: FamilySpec) -> str:
    before = f" beside {spec.students[-1]}, whose trunk it continues" if spec.students else ""
    return (
        f"student {budget.student!r} must be feasible within {budget.show(budget.limit)}{before}; the nearest feasible "
        f"is {budget.show(least)}. Raise its budget or leave it out."
    )


def check_spread(spec: FamilySpec) -> tuple[float, float]:
    """How many times the largest student is the smallest, in predicted bytes and in MACs."""
    costs = list(family_costs(spec).values())
    return costs[-1].int8_bytes / costs[0].int8_bytes, costs[-1].macs / costs[0].macs


def describe_family(spec: FamilySpec) -> str:
    """A table for a person: what each student will weigh and work, before it is trained."""
    rows = [("student", "parameters", "int8 file, about", "MACs")]
    for name, cost in family_costs(spec).items():
        rows.append((name, f"{cost.parameters:,}", format_bytes(cost.int8_bytes), format_count(cost.macs)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
