# SPDX-License-Identifier: Apache-2.0
"""Positions of channels along the axes of tensors and weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Placement:
    """The channels along an axis.

    Attributes:
        group: [size] int, index of the group of each position; -1 where the channel cannot be removed.
        unit: [size] int, index of the unit in its group; 0 where the channel cannot be removed.
    """

    group: np.ndarray
    unit: np.ndarray

    def kept(self, kept: Sequence[np.ndarray]) -> np.ndarray:
        """Finds the positions that are kept.

        Args:
            kept: For each group, [width] bool, whether the unit is kept.

        Returns:
            Sorted indices of positions.
        """
        stays = np.ones(len(self.group), bool)
        for index in np.unique(self.group[self.group >= 0]):
            here = self.group == index
            stays[here] = kept[index][self.unit[here]]
        return np.flatnonzero(stays)

    def of_group(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the positions of a group.

        Args:
            group: Index of the group.

        Returns:
            Indices of positions, and the unit of each.
        """
        positions = np.flatnonzero(self.group == group)
        return positions, self.unit[positions]

    def counts(self, groups: int) -> tuple[int, np.ndarray]:
        """Counts positions: those that are always kept, and [groups] those of one unit of each group."""
        free = self.group >= 0
        totals = np.bincount(self.group[free], minlength=groups)
        units = np.zeros(groups, int)
        for index in np.flatnonzero(totals):
            units[index] = len(np.unique(self.unit[self.group == index]))
        return int(np.sum(~free)), totals // np.maximum(units, 1)


@dataclass(frozen=True)
class WeightAxis:
    """An axis of a weight along which channels lie.

    Attributes:
        layer: Name of the layer.
        weight: Index of the weight in the layer's `get_weights()`.
        axis: Axis of the weight.
        computes: Whether the layer computes these channels; otherwise it reads them or acts on each of them alone.
        placement: Channels along the axis.
    """

    layer: str
    weight: int
    axis: int
    computes: bool
    placement: Placement
