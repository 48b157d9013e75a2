# SPDX-License-Identifier: Apache-2.0
"""Computes how many channels each group keeps under a target, from predicted costs and the importance of each channel.

Channels are removed a few at a time, each time where the loss increases least for the reduction of what still exceeds
the target. The target applies to the largest student. Each smaller student should lose the same fraction of its own
bytes (or MACs, or channels), or has a target of its own: while the largest is pruned, shared groups are not reduced
below that fraction of a smaller student, unless no other group is left to reduce. Then the tail of each smaller
student, which no other student has, is reduced to reach the fraction, but each of its groups keeps that fraction of its
channels, so that the smaller student does not lose accuracy for a trunk that the largest needs. If the trunk alone
already reduces a student by more than the fraction, its tail is not pruned.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from learn2compress.compression.channels.costs import KINDS
from learn2compress.compression.channels.groups import ChannelGroup
from learn2compress.compression.pruning.prunable import Prunable
from learn2compress.schemas.config import ChannelTarget
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.units import format_bytes, format_count

_ROUNDING = 1e-9
_OVERSHOOT = 0.02  # tolerance of a smaller student's fraction, since widths are multiples of four
_STRIDES = (1, 2, 3, 4, 6, 8, 12, 16)  # sizes of a change that are tried, in steps of four channels
_COARSE = 4096  # widths change in steps of four for each so many channels of a network, or the search takes minutes
_SHOWN = 20  # groups whose widths are listed


@dataclass(frozen=True)
class _Goal:
    """Limits of each student.

    Attributes:
        shares: Fraction of each student's present value [students], by kind: "bytes", "macs" or "channels"; infinite
            where there is no limit.
        limits: Largest value of each student [students], by kind.
    """

    shares: dict[str, np.ndarray]
    limits: dict[str, np.ndarray]

    def limits_student(self, student: int) -> bool:
        """Tells whether a student has any limit."""
        return any(np.isfinite(limits[student]) for limits in self.limits.values())

    def excess(self, figures: np.ndarray, student: int) -> float:
        """Computes the largest ratio of a value to its limit; above 1 the goal is not reached."""
        return max(figures[KINDS.index(kind), student] / limits[student] for kind, limits in self.limits.items())

    def total(self, figures: np.ndarray, student: int) -> float:
        """Computes the sum of those ratios, in which all kinds have equal weight."""
        return sum(figures[KINDS.index(kind), student] / limits[student] for kind, limits in self.limits.items())

    def gain(self, before: np.ndarray, after: np.ndarray, student: int) -> float:
        """Computes the progress of a change, in fractions of the limits, summed over the limits that are exceeded."""
        gain = 0.0
        for kind, limits in self.limits.items():
            row = KINDS.index(kind)
            now = before[row, student]
            if now > limits[student]:
                gain += (now - after[row, student]) / limits[student]
        return gain


def _show(kind: str, value: float) -> str:
    """Writes a value to the last digit, so that a value from a message can be set as the target."""
    return f"{math.floor(value):,} {'B' if kind == 'bytes' else 'MACs' if kind == 'macs' else kind}"


def choose_widths(students: Prunable, target: ChannelTarget, loss_increase: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Finds the widths that meet a target.

    Args:
        students: Students.
        target: Target of the largest student.
        loss_increase: Increase of the loss if a unit of channels is removed [width], by group, in the same unit for
            all.

    Returns:
        Number of units that each group keeps: all of them if the target is met already.

    Raises:
        FamilyError: No widths meet the target; the message names the smallest reachable value.
    """
    check_reachable(students, target)
    search = _searched(students, target, loss_increase)
    _check_own_targets(students, target, search)
    return search.widths


def target_alone(family: Prunable, alone: Prunable, target: ChannelTarget) -> ChannelTarget | None:
    """Computes the target of a student that is cut out of its family: the fraction that it should lose there.

    Args:
        family: All students.
        alone: The student alone.
        target: Target of the largest student.

    Returns:
        The target; for a smaller student it is limited to what can be reached. None if the student is not pruned.
    """
    (student,) = alone.names
    if student == family.names[-1] and not target.students:
        return target
    goal, present = _goal(family, target), alone.costs.at().figures
    shares = {}
    for kind, limits in goal.limits.items():
        now = int(present[KINDS.index(kind), 0])
        limit = float(limits[family.names.index(student)])
        if not math.isfinite(limit):
            continue
        share = max(limit / now, _least(alone, kind, limit) / now + _ROUNDING)
        if share < 1:
            shares["fraction" if kind == "channels" else kind] = 1 - share if kind == "channels" else share
    return ChannelTarget(**shares) if shares else None


def check_reachable(students: Prunable, target: ChannelTarget) -> None:
    """Checks before any training that there are widths that meet a target.

    Raises:
        FamilyError: There are none; the message names the smallest reachable value.
    """
    goal, largest, present = _goal(students, target), students.names[-1], students.costs.at().figures
    for kind, limits in goal.limits.items():
        least = _least(students, kind, float(limits[-1]))
        if least > limits[-1]:
            given = ", ".join(f"{k}: {v}" for k, v in target.model_dump(exclude_none=True).items())
            stays = students.channels.kept
            because = f" ({stays[0]}{', and others' if len(stays) > 1 else ''})" if stays else ""
            raise FamilyError(
                f"prune.channels must be within reach of student {largest!r}; got {{{given}}}, which is "
                f"{_show(kind, limits[-1])} of its {_show(kind, present[KINDS.index(kind), -1])}, and the smallest "
                f"reachable is {_show(kind, least)}{because}. Set a larger value, or give it a smaller size in "
                "students.sizes."
            )
    if target.students:
        nothing = {group.name: np.zeros(group.width) for group in students.groups}
        _check_own_targets(students, target, _searched(students, target, nothing))


def describe_widths(students: Prunable, widths: Mapping[str, int]) -> str:
    """Describes in one line the widths of each group, and the sizes and MACs of the students, before and after."""
    changed = [
        f"{group.name} {group.width} → {widths[group.name]}"
        for group in students.groups
        if widths[group.name] != group.width
    ]
    if len(changed) > _SHOWN:
        total, left = sum(group.width for group in students.groups), sum(widths.values())
        changed = [f"{len(changed)} of {len(students.groups)} groups, {total} → {left} together"]
    before = students.costs.at().figures
    after = students.costs.at([widths[group.name] for group in students.groups]).figures
    sizes = [
        f"{student} about {format_bytes(int(before[0, n]))} → {format_bytes(int(after[0, n]))} as int8, "
        f"{format_count(int(before[1, n]))} → {format_count(int(after[1, n]))} MACs"
        for n, student in enumerate(students.names)
    ]
    return f"channels: {', '.join(changed) or 'all kept'}; {'; '.join(sizes)}"


def _searched(students: Prunable, target: ChannelTarget, loss_increase: Mapping[str, np.ndarray]) -> "_Search":
    """Reduces the largest student, then the parts that only a smaller student has."""
    goal = _goal(students, target)
    search, largest = _Search(students, goal, loss_increase), students.names[-1]
    shared = [g for g in students.groups if largest in g.students]
    search.cut(shared, largest, [s for n, s in enumerate(students.names[:-1]) if goal.limits_student(n)])
    search.cut(shared, largest, [])
    search.widen([g for g in shared if g.students == (largest,)], largest)
    for number, student in enumerate(students.names[:-1]):
        own = [g for g in students.groups if g.students == (student,)]
        has_target = student in (target.students or {})
        least = 0.0 if has_target else float(min(shares[number] for shares in goal.shares.values()))
        search.cut(own, student, [], least)
        search.widen(own, student)
    return search


def _check_own_targets(students: Prunable, target: ChannelTarget, search: "_Search") -> None:
    """Checks that smaller students with a target of their own reach it, by the parts that only they have."""
    for number, student in enumerate(students.names[:-1]):
        for kind, limits in search.goal.limits.items() if student in (target.students or {}) else ():
            reached = int(search.state.figures[KINDS.index(kind), number])
            if reached > limits[number]:
                raise FamilyError(
                    f"prune.channels.students.{student} must be within reach by the part that only this student has; "
                    f"its limit is {_show(kind, limits[number])}, and the nearest reachable is {_show(kind, reached)}. "
                    "Set a larger value, or a smaller one for the largest student."
                )


def _least(students: Prunable, kind: str, limit: float) -> int:
    """Computes the smallest value of the largest student that can be reached towards a goal of one kind."""
    every = np.full(len(students.names), limit)
    largest = students.names[-1]
    groups = [g for g in students.groups if largest in g.students]
    search = _Search(students, _Goal({kind: every}, {kind: every}), {g.name: np.zeros(g.width) for g in groups})
    search.cut(groups, largest, [])
    return int(search.state.figures[KINDS.index(kind), -1])


def _goal(students: Prunable, target: ChannelTarget) -> _Goal:
    own = target.students or {}
    if unknown := sorted(set(own) - set(students.names)):
        raise FamilyError(
            f"prune.channels.students must name students, which are {', '.join(students.names)}; got "
            f"{', '.join(unknown)}. Correct the name."
        )
    shares, limits = {}, {}
    present = students.costs.at().figures
    for kind, name in (("channels", "fraction"), ("bytes", "bytes"), ("macs", "macs")):
        now = present[KINDS.index(kind)]
        general = _share(kind, getattr(target, name), int(now[-1]))
        found = np.array(
            [
                _share(kind, getattr(own[student], name), int(now[n])) if student in own else general
                for n, student in enumerate(students.names)
            ]
        )
        if np.any(np.isfinite(found)):
            shares[kind], limits[kind] = found, found * now
    return _Goal(shares, limits)


def _share(kind: str, value: float | int | None, now: int) -> float:
    """Converts a target to the fraction that is left; infinite without a target."""
    if value is None:
        return math.inf
    return 1 - value if kind == "channels" else value / now if value >= 1 else value


class _Search:
    """Search for widths, which reduces and widens one group at a time."""

    def __init__(self, students: Prunable, goal: _Goal, loss_increase: Mapping[str, np.ndarray]) -> None:
        self.students, self.goal = students, goal
        self.state, self.index = students.costs.at(), students.channels.index
        self.widths = {group.name: group.width for group in students.groups}
        self.coarse = max(1, sum(self.widths.values()) // _COARSE)
        # Increase of the loss if only the w most important channels of a group are kept.
        self.increase = {
            name: np.concatenate([[0.0], np.cumsum(np.sort(values))])[::-1] for name, values in loss_increase.items()
        }

    def cut(self, groups: Iterable[ChannelGroup], student: str, protected: Iterable[str], least: float = 0.0) -> None:
        """Removes channels until a student is within its limits or no channel can be removed.

        Args:
            groups: Groups to remove channels from.
            student: Name of the student whose limits are to be met.
            protected: Names of students that must not fall below their own limits.
            least: Fraction of its channels that each group keeps in any case.
        """
        groups, protected, number = list(groups), list(protected), self._number(student)
        while self.goal.excess(self.state.figures, number) > 1:
            moves = []
            for group in groups:
                for width, figures in self._other(group, -1, max(group.min_width, least * group.width)):
                    saved = self.goal.gain(self.state.figures, figures, number)
                    fallen = (
                        s
                        for s in protected
                        if s in group.students and self.goal.excess(figures, self._number(s)) < 1 - _OVERSHOOT
                    )
                    if saved > 0 and next(fallen, None) is None:
                        moves.append((self._added_loss(group, width) / saved, group.name, width))
            if not moves:
                return
            self._take(min(moves))

    def widen(self, groups: Iterable[ChannelGroup], student: str) -> None:
        """Puts channels back, the most important ones first, as far as the limits allow, since removal is coarse.

        Dead channels, whose loss is zero, stay removed.
        """
        groups, number = list(groups), self._number(student)
        while True:
            moves = []
            for group in groups:
                for width, figures in self._other(group, 1, group.width):
                    gained = self.goal.total(figures, number) - self.goal.total(self.state.figures, number)
                    decrease = -self._added_loss(group, width)
                    if decrease > 0 and self.goal.excess(figures, number) <= 1:
                        moves.append((decrease / gained if gained > 0 else math.inf, group.name, width))
            if not moves:
                return
            self._take(max(moves))

    def _number(self, student: str) -> int:
        return self.students.names.index(student)

    def _take(self, move: tuple[float, str, int]) -> None:
        _, name, width = move
        self.widths[name] = width
        self.state.change(self.index[name], width)

    def _added_loss(self, group: ChannelGroup, width: int) -> float:
        increase = self.increase[group.name]
        return float(increase[width] - increase[self.widths[group.name]])

    def _other(self, group: ChannelGroup, sign: int, bound: float) -> Iterator[tuple[int, np.ndarray]]:
        """Yields narrower (-1) or wider (1) widths of a group, up to a bound, that do not change the connections.

        Larger changes are among them: vectors of a width that no other layer has are stored separately in a file, so
        that removing a few channels may save nothing, and removing more of them a lot.
        """
        seen, step = {self.widths[group.name]}, group.step * self.coarse
        for steps in _STRIDES:
            # The new width is a multiple, even if the old one is not.
            width = (self.widths[group.name] // (sign * step) + steps) * sign * step
            width = min(width, group.width)
            if width in seen or sign * (width - bound) > 0:
                continue
            seen.add(width)
            if self.students.allows({**self.widths, group.name: width}):
                yield width, self.state.changed(self.index[group.name], width)
