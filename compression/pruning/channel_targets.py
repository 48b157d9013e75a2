# SPDX-License-Identifier: Apache-2.0
"""How many channels each group keeps under a target, from arithmetic and a figure of damage for each channel.

Channels are removed a few at a time, always where the damage is least for what it saves of all that is still too much.
The target is the largest student's. A smaller one shall lose the same share of its own bytes (or MACs, or channels):
while the largest is cut, what they have in common is not cut further than that share allows, unless nothing else is
left to cut; then each smaller one's own tail, which no other student has, makes up what is missing, but keeps that
share of its channels: it shall not pay with its accuracy for a trunk that the largest needs. Where the trunk alone
already takes more than the share from a student, its tail stays whole.
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
_OVERSHOOT = 0.02  # of a smaller student's share: channels come in fours, so it is not met to the byte
_STRIDES = (1, 2, 3, 4, 6, 8, 12, 16)  # in steps of four channels: how far one look goes


@dataclass(frozen=True)
class _Goal:
    """How much each student may have left of what is counted.

    Attributes:
        shares: By what is counted ("bytes", "macs" or "channels"): of what the largest student has.
        limits: By the same and by student.
    """

    shares: dict[str, float]
    limits: dict[str, dict[str, float]]

    def excess(self, spec: FamilySpec, student: str) -> float:
        """The largest ratio of what there is to what there may be: above 1 the goal is not reached."""
        return max(_measure(spec, student, kind) / limits[student] for kind, limits in self.limits.items())

    def total(self, spec: FamilySpec, student: str) -> float:
        """The sum of those ratios, in which all that is counted weighs alike."""
        return sum(_measure(spec, student, kind) / limits[student] for kind, limits in self.limits.items())

    def gain(self, before: FamilySpec, after: FamilySpec, student: str) -> float:
        """How much nearer the goal is after a change: in shares of the limits, over all that do not hold yet."""
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
    """To the last digit: whoever is told what can be reached may ask for just that."""
    return f"{math.floor(value):,} {'B' if kind == 'bytes' else 'MACs' if kind == 'macs' else kind}"


def choose_widths(spec: FamilySpec, target: ChannelTarget, damage: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Finds the widths.

    Args:
        spec: The family.
        target: Of the largest student.
        damage: By group, [channels]: what it costs to lose each channel, in any one unit.

    Returns:
        Channels left, by group. All are kept where the target is met already.

    Raises:
        FamilyError: No widths meet the target; the smallest that can be reached is named.
    """
    goal = _goal(spec, target)
    check_reachable(spec, target)
    search = _Search(spec, goal, damage)
    largest = spec.students[-1]
    shared = [g for g in search.groups if largest in g.students]
    search.cut(shared, largest, [s for s in spec.students if s != largest])
    search.cut(shared, largest, [])
    search.give_back([g for g in shared if g.students == (largest,)], largest)
    for student in spec.students[:-1]:
        own = [g for g in search.groups if g.students == (student,)]
        search.cut(own, student, [], min(goal.shares.values()))
        search.give_back(own, student)
    return search.widths


def target_alone(spec: FamilySpec, target: ChannelTarget, student: str) -> ChannelTarget | None:
    """The target of a student that is cut out of its family: the share that it should lose there.

    A target is the largest student's. A smaller one loses as much of that share as can be reached.

    Returns:
        None if it loses nothing.
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
    """Makes sure that there are widths for a target, before anything is trained.

    Raises:
        FamilyError: There are none; the smallest that can be reached is named.
    """
    goal, largest = _goal(spec, target), spec.students[-1]
    for kind, limits in goal.limits.items():
        least = _least(spec, _only(goal, kind))
        if least > limits[largest]:
            asked = ", ".join(f"{k}: {v}" for k, v in target.model_dump(exclude_none=True).items())
            raise FamilyError(
                f"prune.channels must be within reach of student {largest!r}; got {{{asked}}}, which is "
                f"{_show(kind, limits[largest])} of its {_show(kind, _measure(spec, largest, kind))}, and the smallest "
                f"reachable is {_show(kind, least)}. Ask for no less, or give it a smaller size in students.sizes."
            )


def describe_widths(spec: FamilySpec, thin: FamilySpec) -> str:
    """One line: the channels that each group had and has left, and what the students weigh and work now."""
    widths = [
        f"{old.name} {old.width} → {new.width}"
        for old, new in zip(channel_groups(spec), channel_groups(thin), strict=True)
        if old.width != new.width
    ]
    sizes = []
    for student in spec.students:
        old, new = student_cost(spec, student), student_cost(thin, student)
        sizes.append(
            f"{student} about {format_bytes(old.predicted_bytes)} → {format_bytes(new.predicted_bytes)} as int8, "
            f"{format_count(old.macs)} → {format_count(new.macs)} MACs"
        )
    return f"channels: {', '.join(widths) or 'all stay'}; {'; '.join(sizes)}"


def _least(spec: FamilySpec, goal: _Goal) -> int:
    """What the largest student has left where all is cut that a goal of one kind asks for and that can be cut."""
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
    """Widths that are cut and given back, a step of a group at a time."""

    def __init__(self, spec: FamilySpec, goal: _Goal, damage: Mapping[str, np.ndarray]) -> None:
        self.original = self.spec = spec
        self.goal, self.groups = goal, channel_groups(spec)
        self.widths = {group.name: group.width for group in self.groups}
        # What it costs to keep only the best w channels of a group.
        self.lost = {name: np.concatenate([[0.0], np.cumsum(np.sort(values))])[::-1] for name, values in damage.items()}

    def cut(self, groups: Iterable[ChannelGroup], student: str, spared: Iterable[str], least: float = 0.0) -> None:
        """Removes channels until the student's limit holds or there are none to remove.

        Args:
            groups: From which.
            student: Whose limit is to hold.
            spared: Students that shall not fall below their own limits.
            least: The share of its channels that each group keeps anyway.
        """
        groups, spared = list(groups), list(spared)
        while self.goal.excess(self.spec, student) > 1:
            moves = []
            for group in groups:
                for width, spec in self._other(group, -1, max(group.min_width, least * group.width)):
                    saved = self.goal.gain(self.spec, spec, student)
                    fallen = (s for s in spared if s in group.students and self.goal.excess(spec, s) < 1 - _OVERSHOOT)
                    if saved > 0 and next(fallen, None) is None:
                        moves.append((self._harm(group, width) / saved, group.name, width, spec))
            if not moves:
                return
            self._take(min(moves, key=lambda move: move[:3]))

    def give_back(self, groups: Iterable[ChannelGroup], student: str) -> None:
        """Puts channels back, the most missed ones first, as far as the limit allows: the last cut was a coarse one."""
        groups = list(groups)
        while True:
            moves = []
            for group in groups:
                for width, spec in self._other(group, 1, group.width):
                    gained = self.goal.total(spec, student) - self.goal.total(self.spec, student)
                    if self.goal.excess(spec, student) <= 1:
                        missed = -self._harm(group, width)
                        moves.append((missed / gained if gained > 0 else math.inf, group.name, width, spec))
            if not moves:
                return
            self._take(max(moves, key=lambda move: move[:3]))

    def _take(self, move: tuple) -> None:
        _, name, self.widths[name], self.spec = move

    def _harm(self, group: ChannelGroup, width: int) -> float:
        lost = self.lost[group.name]
        return lost[width] - lost[self.widths[group.name]]

    def _other(self, group: ChannelGroup, sign: int, bound: float) -> Iterator[tuple[int, FamilySpec]]:
        """Narrower (-1) or wider (1) widths of a group, up to a bound, at which the family stays the same network.

        Some are further off: a width that no other layer has costs bytes of its own in a file, so that a few channels
        less may save nothing, and more of them a lot.
        """
        seen = {self.widths[group.name]}
        for steps in _STRIDES:
            # To multiples, whatever the width was.
            width = (self.widths[group.name] // (sign * CHANNEL_STEP) + steps) * sign * CHANNEL_STEP
            width = min(width, group.width)
            if width in seen or sign * (width - bound) > 0:
                continue
            seen.add(width)
            spec = with_widths(self.original, {**self.widths, group.name: width})
            if spec is not None:
                yield width, spec
