# SPDX-License-Identifier: Apache-2.0
"""Channel groups of a family, and the family with other widths.

A channel cannot be removed from a single layer. A residual addition requires equal channels in both operands, so all
blocks of a sequence of residual blocks have the same channels; a depthwise layer has the channels of its input; tails
and logits read the output of the trunk. Channels that depend on each other in this way form a group: one block computes
them, the residual blocks after it add to them, and a channel is removed from the whole group, in all students that
contain it.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from learn2compress.compression.family.spec import Block, FamilySpec, is_residual

CHANNEL_STEP = 4  # widths are multiples of it: vector units and int8 kernels of phones process four channels at a time
MIN_CHANNELS = 8  # minimum width of a group: narrower layers block the signal
MIN_FRACTION = 0.1  # minimum fraction of a group's channels that is kept, for the same reason


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can only be removed together.

    Attributes:
        name: Name of the block that computes them.
        blocks: Names of all blocks that have them as output: the first block and the residual ones after it.
        width: Number of channels.
        students: Names of the students that contain the group, smallest first.
    """

    name: str
    blocks: tuple[str, ...]
    width: int
    students: tuple[str, ...]

    @property
    def min_width(self) -> int:
        """The smallest width that pruning may leave, a multiple of `CHANNEL_STEP` unless the group is narrower."""
        floor = max(MIN_CHANNELS, MIN_FRACTION * self.width)
        return min(self.width, int(-(-floor // CHANNEL_STEP)) * CHANNEL_STEP)


def channel_groups(spec: FamilySpec) -> tuple[ChannelGroup, ...]:
    """List the channel groups of a family in the order of its blocks; the channels of the image are not a group."""
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
    """Change the widths of channel groups.

    Args:
        spec: The family.
        widths: New width by name of the group; other groups keep their width.

    Returns:
        A family with the same blocks, or None if a block would become residual or no longer be residual because of the
        new widths, which would change the structure of the network.
    """
    wanted = {block.name: widths[group] for block, group, _ in _walk(spec) if group is not None and group in widths}

    def resized(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        return tuple(replace(b, filters=wanted[b.name]) if b.name in wanted else b for b in blocks)

    resized_spec = replace(
        spec,
        stem=resized(spec.stem),
        branches=tuple(replace(b, segment=resized(b.segment), tail=resized(b.tail)) for b in spec.branches),
    )
    same = all(old[1:] == new[1:] for old, new in zip(_walk(spec), _walk(resized_spec), strict=True))
    return resized_spec if same else None


_Walked = tuple[Block, str | None, tuple[str, ...]]


def _walk(spec: FamilySpec) -> Iterator[_Walked]:
    """Yield each block once, with the group of its output (None for the image) and the students that contain it."""

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
