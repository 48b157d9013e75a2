# SPDX-License-Identifier: Apache-2.0
"""Which channels of a family belong together, and the family with fewer of them.

A channel cannot be removed from one layer alone. A residual sum adds channel to channel, so all blocks of a residual
stretch have the same ones; a depthwise layer has its input's; tails and logits read what the trunk gives them. What is
tied in this way is a group: it is made by one block, added to by the residual ones behind it, and keeps or loses a
channel as a whole, in all students that have it.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from learn2compress.compression.family.spec import Block, FamilySpec, is_residual

CHANNEL_STEP = 4  # widths are multiples of it: vector units and the int8 kernels of phones take four at a time
LEAST_CHANNELS = 8  # of a group: what is thinner stops the signal
LEAST_SHARE = 0.1  # of a group's channels, likewise


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that come and go together.

    Attributes:
        name: Of the block that makes them.
        blocks: Names of all the blocks whose output they are; residual ones add to it.
        width: How many there are.
        students: Those that have them, smallest first.
    """

    name: str
    blocks: tuple[str, ...]
    width: int
    students: tuple[str, ...]

    @property
    def least(self) -> int:
        """As few as may be left."""
        floor = max(LEAST_CHANNELS, LEAST_SHARE * self.width)
        return min(self.width, int(-(-floor // CHANNEL_STEP)) * CHANNEL_STEP)


def channel_groups(spec: FamilySpec) -> tuple[ChannelGroup, ...]:
    """The groups of a family, in the order of its blocks. The image's channels are none: they are given."""
    found: dict[str, ChannelGroup] = {}
    for block, group, students in _walk(spec):
        if group is None:
            continue
        if group in found:
            found[group] = replace(found[group], blocks=(*found[group].blocks, block.name))
        else:
            found[group] = ChannelGroup(group, (block.name,), block.filters, students)
    return tuple(found.values())


def with_widths(spec: FamilySpec, widths: Mapping[str, int]) -> FamilySpec | None:
    """The family with other widths.

    Args:
        spec: The family.
        widths: By the group's name; groups that are not named stay as they are.

    Returns:
        A family with the same blocks; None where a block would become residual, or cease to be, since widths happen to
        coincide: it would be another network.
    """
    wanted = {block.name: widths[group] for block, group, _ in _walk(spec) if group is not None and group in widths}

    def resized(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        return tuple(replace(b, filters=wanted[b.name]) if b.name in wanted else b for b in blocks)

    thin = replace(
        spec,
        stem=resized(spec.stem),
        branches=tuple(replace(b, segment=resized(b.segment), tail=resized(b.tail)) for b in spec.branches),
    )
    same = all(old[1:] == new[1:] for old, new in zip(_walk(spec), _walk(thin), strict=True))
    return thin if same else None


_Walked = tuple[Block, str | None, tuple[str, ...]]


def _walk(spec: FamilySpec) -> Iterator[_Walked]:
    """Each block once, with the group of its output (None: the image's channels) and the students that have it."""

    def follow(
        blocks: Sequence[Block], group: str | None, channels: int, students: tuple[str, ...]
    ) -> Generator[_Walked, None, tuple[str | None, int]]:
        for block in blocks:
            if not is_residual(block, channels):
                group = block.name
            channels = block.filters
            yield block, group, students
        return group, channels

    group, channels = yield from follow(spec.stem, None, spec.input_shape[2], spec.students)
    for index, branch in enumerate(spec.branches):
        group, channels = yield from follow(branch.segment, group, channels, spec.students[index:])
        yield from follow(branch.tail, group, channels, (branch.student,))
