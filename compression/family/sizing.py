# SPDX-License-Identifier: Apache-2.0
"""Solves for the widths and exits of a family that fits the requested sizes, before training.

Students are placed in the order of their size, smallest first. For each student the cost of every trunk segment and
every tail of a finite grid is computed, and the combination with the best score is chosen: it uses most of the budget,
and its compute grows in proportion to its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from learn2compress.compression.family.budgets import Budget
from learn2compress.compression.family.latency import cost_at_image, timed_costs
from learn2compress.compression.family.spec import (
    Block,
    Branch,
    Cost,
    FamilySpec,
    branch_choices,
    family_costs,
    segment_side,
    shared_parameters,
    stem_side,
    stems,
)
from learn2compress.compression.family.stages import (
    BY_STAGE_SIDE,
    STAGE_EXPONENT,
    stage_branches,
    stage_score,
    stage_stems,
)
from learn2compress.compression.family.training_time import relative_step_times, training_ns
from learn2compress.evaluation.latency.model import LatencyModel
from learn2compress.schemas.config import Blocks, StudentSize
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.units import format_bytes, format_count

# Named sizes as multiples of the size in bytes of the default large student.
NAMED_SIZES = {"tiny": 0.125, "small": 0.22, "medium": 0.5, "large": 1.0, "xlarge": 2.0}
TARGET_STEM_WIDTH = 32  # channels at the end of the stem: fewer limit the trunk, more increase the cost of all students
MIN_MACS_RATIO = 4.0  # of the largest to the smallest student, if their budgets in bytes have this ratio
TARGET_MACS_RATIO = 4.2  # the ratio that the solver aims at
COMPUTE_EXPONENT = 0.7  # MACs grow at least as this power of bytes: larger students are deeper at lower resolution
TARGET_FEATURES = 64  # width before the logits: too few features separate only a few classes
TAIL_FRACTION = 0.02  # of the largest student's MACs: tails with more MACs than this are penalized
MIN_BYTES_RATIO = 1.1  # of consecutive students: with a smaller ratio they would be nearly the same
FUSED_MARGIN_BYTES = 150  # by which files with fused blocks may exceed their prediction, which was fitted to others
_EXPONENT_INCREMENTS = (0.05, 0.1, 0.15, 0.2)  # tried in turn if the ratio of MACs is too small
MACS_IN_TIME = 0.3  # weight of the logarithm of MACs where only latency is limited: more of them in the same time
BYTES_PER_CLASS = 200  # of the default large student, from the eleventh class on, for logits of sufficient width


@dataclass(frozen=True)
class _Rules:
    """What differs between families of different kinds of block.

    Attributes:
        stems: Yields the stems for an image's shape, with the width at their end.
        exponent: MACs grow at least as this power of bytes.
        more_macs: Weights of MACs above this growth in the score, of all students but the largest and of the largest.
        stem_weight: Weight of a stem's width other than `TARGET_STEM_WIDTH`.
        by_stage: Whether `stage_branches` and `stage_score` apply.
    """

    stems: Callable[[tuple[int, int, int]], Iterator[tuple[int, tuple[Block, ...]]]]
    exponent: float
    more_macs: tuple[float, float]
    stem_weight: float
    by_stage: bool


_RULES = {
    "separable": _Rules(stems, COMPUTE_EXPONENT, (0.6, 0.6), 0.3, by_stage=False),
    # Dense convolutions have many MACs for their time, so MACs above the expected ones are no loss.
    "by_stage": _Rules(stage_stems, STAGE_EXPONENT, (0.0, 0.3), 2.0, by_stage=True),
}


def kinds_of_blocks(blocks: Blocks, input_shape: tuple[int, int, int]) -> Literal["by_stage", "separable"]:
    """Return the kinds of block for images of a shape: those that are requested, or with `auto` those by default."""
    if blocks != "auto":
        return blocks
    return "by_stage" if min(input_shape[:2]) >= BY_STAGE_SIDE else "separable"


def label_bytes(classes: Sequence[str]) -> int:
    """Count the bytes of the class names in a file, one per line."""
    return sum(len(name.encode()) + 1 for name in classes)


def default_large_bytes(input_shape: tuple[int, int, int], classes: int) -> int:
    """Compute the bytes of the default large student: 3 KB per pixel of the image's side, and more for many classes."""
    side = math.sqrt(input_shape[0] * input_shape[1])
    return int(3000 * min(max(side, 12), 256) + BYTES_PER_CLASS * max(0, classes - 10))


def resolve_budgets(
    sizes: Mapping[str, StudentSize], input_shape: tuple[int, int, int], classes: int, labels: int = 0
) -> tuple[Budget, ...]:
    """Convert sizes to budgets; multipliers, and names alone, become bytes.

    Args:
        sizes: Size by name of the student.
        input_shape: (height, width, channels) of an image.
        classes: Number of classes.
        labels: Bytes of the class names, see `label_bytes`.

    Raises:
        FamilyError: A student without a size has a name that is not a known size, or there are fewer than two students.
    """
    if len(sizes) < 2:
        raise FamilyError(f"students.sizes must name at least two students; got {len(sizes)}. Add a second size.")
    large = default_large_bytes(input_shape, classes)
    budgets = []
    for name, size in sizes.items():
        limit, multiplier = size.size_bytes, size.multiplier
        if all(one is None for one in (limit, multiplier, size.macs, size.latency_ms)):
            multiplier = NAMED_SIZES.get(name)
            if multiplier is None:
                raise FamilyError(
                    f"student {name!r} must be one of {', '.join(NAMED_SIZES)} or have a size; got only a name. "
                    f"Write {name}: {{size_bytes: 24KB}}."
                )
        if multiplier is not None:
            limit = int(multiplier * large) + labels
        budgets.append(Budget(name, limit, size.macs, size.latency_ms))
    return tuple(budgets)


class _Infeasible(FamilyError):
    """No branch of a stem fits the budget of a student.

    Attributes:
        order: Number of students that could not be placed, and the ratio of the nearest feasible cost to the budget; of
            several failures the smallest one is reported.
    """

    def __init__(self, budget: Budget, nearest: Cost | None, before: str | None, left: int) -> None:
        self.order = (left, math.inf if nearest is None else budget.usage(nearest))
        beside = f" beside {before!r}, whose trunk it continues and which must be smaller" if before else ""
        super().__init__(
            f"student {budget.student!r} must be feasible within {budget}{beside}; the nearest "
            f"feasible is {'none' if nearest is None else budget.show(nearest)}. Raise its budget or leave it out."
        )


def solve_family(
    sizes: Mapping[str, StudentSize],
    input_shape: tuple[int, int, int],
    classes: int,
    labels: int = 0,
    blocks: Blocks = "auto",
    latency: LatencyModel | None = None,
) -> FamilySpec:
    """Find the family that fits the requested sizes.

    Args:
        sizes: Size by name of the student; in any order if all are in bytes, or all in MACs or milliseconds, otherwise
            smallest first.
        input_shape: (height, width, channels) of an image.
        classes: Number of classes, at least two.
        labels: Bytes of the class names, see `label_bytes`.
        blocks: Kinds of block that the family consists of, see `kinds_of_blocks`.
        latency: Latency model of the device for which there are limits in milliseconds.

    Returns:
        A family whose students stay within their budgets, and use at least nine tenths of them if that is possible.

    Raises:
        FamilyError: A budget is below the cost of the smallest student or too close to the budget before it (the
            message gives the nearest feasible one), there are fewer than two students or classes, a named size is
            unknown, or a limit in milliseconds lacks a latency model.
    """
    if classes < 2:
        raise FamilyError(
            f"a classifier must have at least two classes; got {classes}. Add a second class to the data."
        )
    budgets = resolve_budgets(sizes, input_shape, classes, labels)
    rules = _RULES[kinds_of_blocks(blocks, input_shape)]
    if len({budget.kind.index(True) for budget in budgets}) == 1:
        budgets = tuple(sorted(budgets, key=lambda b: b.limit))
    if all(budget.latency_ms is None for budget in budgets):
        latency = None
    exponent = _compute_exponent(budgets, rules.exponent)
    empty = FamilySpec(input_shape, classes, (), (), labels)
    spec = _solve(rules, budgets, exponent, 0.0, empty, latency)
    # The grid is coarse, so the ratio of MACs may be slightly below the target.
    for more in _EXPONENT_INCREMENTS if _requires_macs_ratio(budgets) else ():
        if size_ratios(spec)[1] >= MIN_MACS_RATIO:
            break
        spec = _solve(rules, budgets, exponent, more, empty, latency)
    return spec


def _solve(
    rules: _Rules,
    budgets: tuple[Budget, ...],
    exponent: float,
    more: float,
    empty: FamilySpec,
    latency: LatencyModel | None,
) -> FamilySpec:
    """Find the best family over all stems, for MACs that grow as the given power of bytes, raised by `more`."""
    solved: list[tuple[float, FamilySpec]] = []
    failures: list[_Infeasible] = []
    for width, stem in rules.stems(empty.input_shape):
        try:
            score, spec = _place_students(rules, replace(empty, stem=stem), budgets, exponent + more, more, latency)
        except _Infeasible as error:
            failures.append(error)
        else:
            solved.append((score + rules.stem_weight * abs(math.log2(width / TARGET_STEM_WIDTH)), spec))
    if not solved:
        raise min(failures, key=lambda failure: failure.order)
    return min(solved, key=lambda pair: pair[0])[1]


def _place_students(
    rules: _Rules,
    spec: FamilySpec,
    budgets: tuple[Budget, ...],
    exponent: float,
    more: float,
    latency: LatencyModel | None,
) -> tuple[float, FamilySpec]:
    """Place the students on a stem, smallest first; return the sum of their scores (less is better) and the family."""
    side, total = stem_side(spec.input_shape, spec.stem), 0.0
    costs: list[Cost] = []
    trunk = cost_at_image(spec.input_shape, latency).extended(spec.stem)
    trunk_ns = training_ns(spec.input_shape, spec.stem)[0]
    margin = FUSED_MARGIN_BYTES if rules.by_stage else 0
    for index, budget in enumerate(budgets):
        choices: list[tuple[float, Branch, Cost]] = []
        nearest: tuple[float, Cost | None] = (math.inf, None)
        last, place = index == len(budgets) - 1, (budget.student, index, side, trunk.shape[2])
        branches = stage_branches(*place, last) if rules.by_stage else branch_choices(*place)
        for _, group in groupby(branches, key=lambda branch: branch.segment[0].filters):
            least = math.inf
            for branch in group:
                cost = trunk.extended((*branch.segment, *branch.tail)).cost(spec.classes, spec.label_bytes)
                usage = budget.usage(cost, margin)
                least = min(least, usage)
                if costs and not _is_larger(cost, costs[-1]):
                    continue
                if usage < nearest[0]:
                    nearest = usage, replace(cost, int8_bytes=cost.predicted_bytes + margin)
                if usage <= 1:
                    score = _score(budget, cost, branch, side, costs[0] if costs else None, last, exponent, rules)
                    if rules.by_stage:
                        growth, in_bytes = _growth(budget, budgets[-1]), budget.int8_bytes is not None
                        score += stage_score(cost, branch, trunk.shape, trunk_ns, growth, in_bytes, not costs, more)
                    elif not last:
                        # Only the tails add to the cost of joint training beyond that of the largest student.
                        tail = cost.macs - trunk.extended(branch.segment).macs
                        score += 5 * max(
                            0.0, tail / _expected_macs(budget, cost, budgets[-1], exponent) - TAIL_FRACTION
                        )
                    choices.append((score, branch, cost))
            if least > max(1, nearest[0]):
                break  # wider branches only cost more
        if not choices:
            raise _Infeasible(budget, nearest[1], spec.students[-1] if costs else None, len(budgets) - index)
        score, branch, cost = min(choices, key=lambda choice: choice[0])
        total += score
        spec = replace(spec, branches=(*spec.branches, branch))
        trunk_ns += training_ns(trunk.shape, branch.segment)[0]
        side, trunk = segment_side(side, branch), trunk.extended(branch.segment)
        costs.append(cost)
    return total, spec


def _is_larger(cost: Cost, before: Cost) -> bool:
    """Return whether a student is sufficiently larger than the one before it."""
    return cost.predicted_bytes >= MIN_BYTES_RATIO * before.predicted_bytes and cost.macs > before.macs


def _requires_macs_ratio(budgets: Sequence[Budget]) -> bool:
    """Return whether the budgets differ enough in bytes for the MACs to differ by `MIN_MACS_RATIO`."""
    smallest, largest = budgets[0], budgets[-1]
    only_bytes = smallest.kind == largest.kind == (True, False, False)
    return only_bytes and largest.limit >= MIN_MACS_RATIO * smallest.limit


def _compute_exponent(budgets: Sequence[Budget], least: float) -> float:
    """Compute the power of bytes as which MACs grow, so that the largest student reaches `TARGET_MACS_RATIO`.

    It also applies to the students in between, since the last student alone cannot compensate for their MACs.
    """
    if not _requires_macs_ratio(budgets):
        return least
    return max(least, math.log(TARGET_MACS_RATIO) / math.log(budgets[-1].limit / budgets[0].limit))


def _expected_macs(budget: Budget, cost: Cost, largest: Budget, exponent: float) -> float:
    """Estimate the MACs of the largest student, if its MACs grow as intended."""
    if budget.kind != largest.kind:
        return cost.macs
    return cost.macs * (largest.limit / budget.limit) ** (exponent if largest.int8_bytes is not None else 1.0)


def _growth(budget: Budget, largest: Budget) -> float | None:
    """Compute the ratio of the largest budget to another; None if they limit different costs."""
    return largest.limit / budget.limit if budget.kind == largest.kind else None


def _score(
    budget: Budget,
    cost: Cost,
    branch: Branch,
    side: int,
    smallest: Cost | None,
    last: bool,
    exponent: float,
    rules: _Rules,
) -> float:
    """Score a branch, less is better: penalize an unused budget, unusual depth, and MACs out of proportion to bytes."""
    unused, *others = budget.unused(cost)
    score = 10 * max(0.0, unused - 0.05) + unused + sum(others)
    if budget.kind == (False, False, True):
        score -= MACS_IN_TIME * math.log(cost.macs)
    score += 0.05 * abs(len(branch.segment) - 3) + 0.1 * (len(branch.segment) < 2)
    score += 0.2 * max(0.0, math.log2(TARGET_FEATURES / branch.tail[-1].filters))
    if smallest is not None:
        growth = math.log(cost.predicted_bytes / smallest.predicted_bytes)
        compute = math.log(cost.macs / smallest.macs)
        more = compute - exponent * growth
        score += (0.6 if more < 0 else rules.more_macs[last]) * abs(more)
        if last:
            score += 20 * max(0.0, math.log(TARGET_MACS_RATIO) - compute)
    else:
        # All other students extend the first one, so it computes at the resolution of the trunk, not at a few pixels.
        score += 0.2 * abs(math.log(cost.macs / (0.7 * side**2 * cost.parameters)))
    return score


def size_ratios(spec: FamilySpec) -> tuple[float, float]:
    """Compute the ratios of the largest to the smallest student in predicted bytes and in MACs."""
    costs = list(family_costs(spec).values())
    return costs[-1].predicted_bytes / costs[0].predicted_bytes, costs[-1].macs / costs[0].macs


def describe_family(spec: FamilySpec, latency: LatencyModel | None = None) -> str:
    """Format a table of the predicted size and compute of each student, to be printed before training.

    Args:
        spec: The family.
        latency: Latency model of a device, by which the table has a column of latencies.
    """
    times, together = relative_step_times(spec)
    rows = [["student", "parameters", "int8 file, about", "MACs", "training step"]]
    for name, cost in timed_costs(spec, latency).items():
        size = format_bytes(cost.predicted_bytes)
        rows.append([name, f"{cost.parameters:,}", size, format_count(cost.macs), f"{times[name]:.2f}"])
        if latency:
            rows[-1].append(f"{cost.predicted_ms:.3g} ms")
    if latency:
        rows[0].append("latency, about")
    family, apart = shared_parameters(spec)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    notes = [
        f"together {family:,} parameters, some of them shared; without sharing {apart:,}",
        f"a training step of all takes about {together:.2f} times as long as one of {spec.students[-1]} alone",
    ]
    if latency:
        notes.append(f"latency of one thread on {latency.device} with {latency.runtime}")
    return "\n".join([*table, *notes])
