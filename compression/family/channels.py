# SPDX-License-Identifier: Apache-2.0
"""The family with other widths of its channel groups.

A group is named after the block that computes its channels; the residual blocks after it add to them and have the same
width, in all students that contain them. Which channels must be removed together follows from the graph of the model
(compression/channels/groups.py); here widths are written into the specification.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace

from learn2compress.compression.family.spec import Block, FamilySpec, is_residual


def with_widths(spec: FamilySpec, widths: Mapping[str, int]) -> FamilySpec | None:
    """Change the widths of channel groups.

    Args:
        spec: The family.
        widths: New width by name of the group; other groups keep their width.

    Returns:
        A family with the same blocks, or None if a block would become residual or no longer be residual because of the
        new widths, which would change the structure of the network.
    """
    wanted = {block.name: widths[group] for block, group in _walk(spec) if group is not None and group in widths}

    def resized(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        return tuple(replace(b, filters=wanted[b.name]) if b.name in wanted else b for b in blocks)

    resized_spec = replace(
        spec,
        stem=resized(spec.stem),
        branches=tuple(replace(b, segment=resized(b.segment), tail=resized(b.tail)) for b in spec.branches),
    )
    same = all(old[1:] == new[1:] for old, new in zip(_walk(spec), _walk(resized_spec), strict=True))
    return resized_spec if same else None


_Walked = tuple[Block, str | None]


def _walk(spec: FamilySpec) -> Iterator[_Walked]:
    """Yield each block once, with the group of its output (None for the image)."""

    def follow(
        blocks: Sequence[Block], group: str | None, channels: int
    ) -> Generator[_Walked, None, tuple[str | None, int]]:
        for block in blocks:
            if not is_residual(block, channels):
                group = block.name
            channels = block.filters
            yield block, group
        return group, channels

    group, channels = yield from follow(spec.stem, None, spec.input_shape[2])
    for branch in spec.branches:
        group, channels = yield from follow(branch.segment, group, channels)
        yield from follow(branch.tail, group, channels)
