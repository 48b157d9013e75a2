# SPDX-License-Identifier: Apache-2.0
"""The students as channel pruning sees them: their channel groups, their costs, and the widths that are allowed.

For the built-in family groups have the names and the order of its blocks, and widths that would add or remove a
residual connection are not allowed, since its specification derives them from the widths.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import tf_keras as keras

from learn2compress.compression.channels.costs import Costs
from learn2compress.compression.channels.groups import ChannelGroup, Channels, find_channels
from learn2compress.compression.family.channels import with_widths
from learn2compress.compression.family.model import block_of
from learn2compress.compression.family.spec import FamilySpec


@dataclass(frozen=True)
class Prunable:
    """Students whose channels can be removed.

    Attributes:
        channels: Channels of the joint model.
        costs: Costs of each student.
        spec: Shape of the built-in family; None for other students.
    """

    channels: Channels
    costs: Costs
    spec: FamilySpec | None = None

    @property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """The channel groups."""
        return self.channels.groups

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the students, smallest first."""
        return self.channels.names

    def allows(self, widths: Mapping[str, int]) -> bool:
        """Tells whether the network keeps its connections with other widths, by name of the group."""
        return self.spec is None or with_widths(self.spec, widths) is not None


def prunable(
    family: keras.Model, names: tuple[str, ...], spec: FamilySpec | None = None, label_bytes: int = 0
) -> Prunable:
    """Finds the channel groups and costs of students.

    Args:
        family: Joint model with an output for each name.
        names: Names of the students, smallest first.
        spec: Shape of the built-in family.
        label_bytes: Bytes of the class names in each file, unless there is a spec.
    """
    channels = find_channels(family, names)
    if spec is not None:
        channels, label_bytes = _by_blocks(channels, spec), spec.label_bytes
    return Prunable(channels, Costs(channels, label_bytes), spec)


def _by_blocks(channels: Channels, spec: FamilySpec) -> Channels:
    """Names and orders the groups by the blocks of the built-in family."""
    blocks = [
        block.name for block in (*spec.stem, *(b for branch in spec.branches for b in (*branch.segment, *branch.tail)))
    ]
    found = {
        group.name: tuple(sorted({block_of(spec, layer).name for layer in group.layers}, key=blocks.index))
        for group in channels.groups
    }
    order = sorted(found, key=lambda name: blocks.index(found[name][0]))
    return channels.renamed({name: found[name][0] for name in order}, found)
