# SPDX-License-Identifier: Apache-2.0
"""Computes how many channels each group keeps under a target, from predicted costs and the importance of each channel.

Channels are removed a few at a time, each time where the loss increases least for the reduction of what still exceeds
the target. The target applies to the largest student. Each smaller student should lose the same fraction of its own
bytes (or MACs, or channels): while the largest is pruned, shared groups are not reduced below that fraction of a
smaller student, unless no other group is left to reduce. Then the tail of each smaller student, which no other student
has, is reduced to reach the fraction, but each of its groups keeps that fraction of its channels, so that the smaller
student does not lose accuracy for a trunk that the largest needs. If the trunk alone already reduces a student by more
than the fraction, its tail is not pruned.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from learn2compress.compression.family.channels import CHANNEL_STEP, ChannelGroup, channel_groups, with_widths
from learn2compress.compression.family.spec import FamilySpec, student_cost
from learn2compress.schemas.config import ChannelTarget
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.units import format_bytes, format_count

_ROUNDING = 1e-9
_OVERSHOOT = 0.02  # tolerance of a smaller student's fraction, since widths are multiples of four
_STRIDES = (1, 2, 3, 4, 6, 8, 12, 16)  # sizes of a change that are tried, in steps of four channels


@dataclass(frozen=True)
class _Goal:
    """Limits of each student.

    Attributes:
        shares: Fraction of the largest student's present value, by kind: "bytes", "macs" or "channels".
        limits: Largest value by kind and student.
    """

    shares: dict[str, float]
    limits: dict[str, dict[str, float]]

    def excess(self, spec: FamilySpec, student: str) -> float:
        """Computes the largest ratio of a value to its limit; above 1 the goal is not reached."""
        return max(_measure(spec, student, kind) / limits[student] for kind, limits in self.limits.items())

    def total(self, spec: FamilySpec, student: str) -> float:
        """Computes the sum of those ratios, in which all kinds have equal weight."""
        return sum(_measure(spec, student, kind) / limits[student] for kind, limits in self.limits.items())

    def gain(self, before: FamilySpec, after: FamilySpec, student: str) -> float:
        """Computes the progress of a change, in fractions of the limits, summed over the limits that are exceeded."""
        gain = 0.0
        for kind, limits in self.limits.items():
            now = _measure(before, student, kind)
            if now > limits[student]:
                gain += (now - _measure(after, student, kind)) / limits[student]
        return gain


def _measure(spec: FamilySpec, student: str, kind: str) -> int:
    if kind == "channels":
        return sum(group.width for group in channel_groups(spec) if student in group.students)
    cost = student_cost(spec, student)
    return cost.predicted_bytes if kind == "bytes" else cost.macs


def _show(kind: str, value: float) -> str:
    """Writes a value to the last digit, so that a value from a message can be set as the target."""
    return f"{math.floor(value):,} {'B' if kind == 'bytes' else 'MACs' if kind == 'macs' else kind}"


def choose_widths(spec: FamilySpec, target: ChannelTarget, loss_increase: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Finds the widths that meet a target.

    Args:
        spec: Shape of the family.
        target: Target of the largest student.
        loss_increase: Increase of the loss if a channel is removed [channels], by group, in the same unit for all.

    Returns:
        Number of channels that each group keeps: all of them if the target is met already.

    Raises:
        FamilyError: No widths meet the target; the message names the smallest reachable value.
    """
    goal = _goal(spec, target)
    check_reachable(spec, target)
    search = _Search(spec, goal, loss_increase)
    largest = spec.students[-1]
    shared = [g for g in search.groups if largest in g.students]
    search.cut(shared, largest, [s for s in spec.students if s != largest])
    search.cut(shared, largest, [])
    search.widen([g for g in shared if g.students == (largest,)], largest)
    for student in spec.students[:-1]:
        own = [g for g in search.groups if g.students == (student,)]
        search.cut(own, student, [], min(goal.shares.values()))
        search.widen(own, student)
    return search.widths


def target_alone(spec: FamilySpec, target: ChannelTarget, student: str) -> ChannelTarget | None:
    """Computes the target of a student that is cut out of its family: the fraction that it should lose there.

    Args:
        spec: Shape of the family.
        target: Target of the largest student.
        student: Name of the student.

    Returns:
        The target; for a smaller student it is limited to what can be reached. None if the student is not pruned.
    """
    if student == spec.students[-1]:
        return target
    goal, alone = _goal(spec, target), spec.single(student)
    shares = {}
    for kind, limits in goal.limits.items():
        now = _measure(alone, student, kind)
        share = max(limits[student] / now, _least(alone, _only(goal, kind)) / now + _ROUNDING)
        if share < 1:
            shares["fraction" if kind == "channels" else kind] = 1 - share if kind == "channels" else share
    return ChannelTarget(**shares) if shares else None


def check_reachable(spec: FamilySpec, target: ChannelTarget) -> None:
    """Checks before any training that there are widths that meet a target.

    Raises:
        FamilyError: There are none; the message names the smallest reachable value.
    """
    goal, largest = _goal(spec, target), spec.students[-1]
    for kind, limits in goal.limits.items():
        least = _least(spec, _only(goal, kind))
        if least > limits[largest]:
            given = ", ".join(f"{k}: {v}" for k, v in target.model_dump(exclude_none=True).items())
            raise FamilyError(
                f"prune.channels must be within reach of student {largest!r}; got {{{given}}}, which is "
                f"{_show(kind, limits[largest])} of its {_show(kind, _measure(spec, largest, kind))}, and the smallest "
                f"reachable is {_show(kind, least)}. Set a larger value, or give it a smaller size in students.sizes."
            )


def describe_widths(spec: FamilySpec, pruned: FamilySpec) -> str:
    """Describes in one line the widths of each group, and the sizes and MACs of the students, before and after."""
    widths = [
        f"{old.name} {old.width} → {new.width}"
        for old, new in zip(channel_groups(spec), channel_groups(pruned), strict=True)
        if old.width != new.width
    ]
    sizes = []
    for student in spec.students:
        old, new = student_cost(spec, student), student_cost(pruned, student)
        sizes.append(
            f"{student} about {format_bytes(old.predicted_bytes)} → {format_bytes(new.predicted_bytes)} as int8, "
            f"{format_count(old.macs)} → {format_count(new.macs)} MACs"
        )
    return f"channels: {', '.join(widths) or 'all kept'}; {'; '.join(sizes)}"


def _least(spec: FamilySpec, goal: _Goal) -> int:
    """Computes the smallest value of the largest student that can be reached towards a goal of one kind."""
    largest, (kind,) = spec.students[-1], goal.limits
    groups = [g for g in channel_groups(spec) if largest in g.students]
    search = _Search(spec, goal, {g.name: np.zeros(g.width) for g in groups})
    search.cut(groups, largest, [])
    return _measure(search.spec, largest, kind)


def _only(goal: _Goal, kind: str) -> _Goal:
    return _Goal({kind: goal.shares[kind]}, {kind: goal.limits[kind]})


def _goal(spec: FamilySpec, target: ChannelTarget) -> _Goal:
    shares, limits = {}, {}
    for kind, value in (("channels", target.fraction), ("bytes", target.bytes), ("macs", target.macs)):
        if value is None:
            continue
        now = {student: _measure(spec, student, kind) for student in spec.students}
        absolute = value / now[spec.students[-1]] if value >= 1 else value
        shares[kind] = 1 - value if kind == "channels" else absolute
        limits[kind] = {student: shares[kind] * measure for student, measure in now.items()}
    return _Goal(shares, limits)


class _Search:
    """Search for widths, which reduces and widens one group at a time."""

    def __init__(self, spec: FamilySpec, goal: _Goal, loss_increase: Mapping[str, np.ndarray]) -> None:
        self.original = self.spec = spec
        self.goal, self.groups = goal, channel_groups(spec)
        self.widths = {group.name: group.width for group in self.groups}
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
        groups, protected = list(groups), list(protected)
        while self.goal.excess(self.spec, student) > 1:
            moves = []
            for group in groups:
                for width, spec in self._other(group, -1, max(group.min_width, least * group.width)):
                    saved = self.goal.gain(self.spec, spec, student)
                    fallen = (
                        s for s in protected if s in group.students and self.goal.excess(spec, s) < 1 - _OVERSHOOT
                    )
                    if saved > 0 and next(fallen, None) is None:
                        moves.append((self._added_loss(group, width) / saved, group.name, width, spec))
            if not moves:
                return
            self._take(min(moves, key=lambda move: move[:3]))

    def widen(self, groups: Iterable[ChannelGroup], student: str) -> None:
        """Puts channels back, the most important ones first, as far as the limits allow, since removal is coarse."""
        groups = list(groups)
        while True:
            moves = []
            for group in groups:
                for width, spec in self._other(group, 1, group.width):
                    gained = self.goal.total(spec, student) - self.goal.total(self.spec, student)
                    if self.goal.excess(spec, student) <= 1:
                        decrease = -self._added_loss(group, width)
                        moves.append((decrease / gained if gained > 0 else math.inf, group.name, width, spec))
            if not moves:
                return
            self._take(max(moves, key=lambda move: move[:3]))

    def _take(self, move: tuple) -> None:
        _, name, self.widths[name], self.spec = move

    def _added_loss(self, group: ChannelGroup, width: int) -> float:
        increase = self.increase[group.name]
        return float(increase[width] - increase[self.widths[group.name]])

    def _other(self, group: ChannelGroup, sign: int, bound: float) -> Iterator[tuple[int, FamilySpec]]:
        """Yields narrower (-1) or wider (1) widths of a group, up to a bound, that do not change the connections.

        Larger changes are among them: vectors of a width that no other layer has are stored separately in a file, so
        that removing a few channels may save nothing, and removing more of them a lot.
        """
        seen = {self.widths[group.name]}
        for steps in _STRIDES:
            # The new width is a multiple, even if the old one is not.
            width = (self.widths[group.name] // (sign * CHANNEL_STEP) + steps) * sign * CHANNEL_STEP
            width = min(width, group.width)
            if width in seen or sign * (width - bound) > 0:
                continue
            seen.add(width)
            spec = with_widths(self.original, {**self.widths, group.name: width})
            if spec is not None:
                yield width, spec
