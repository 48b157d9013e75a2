# SPDX-License-Identifier: Apache-2.0
"""Labels of channels while a model is followed from its input to its outputs.

Each tensor has an array of labels, one for each position of its last axis, and so have the axes of weights. Layers that
compute new channels make fresh labels; layers that act on each channel alone pass labels on; a flattened tensor repeats
them, and a concatenation joins their arrays. Labels of channels that must be removed together are coupled (a union-find
forest), and labels of channels that must stay are kept with a reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np


class NotFollowed(Exception):
    """A layer's channels cannot be followed; the message is the reason, as a phrase behind the layer's name."""


@dataclass(frozen=True)
class Reason:
    """Why channels stay.

    Attributes:
        layer: Name of the layer.
        kind: Class of the layer.
        why: A phrase behind the layer's name, such as "normalizes over the channels".
    """

    layer: str
    kind: str
    why: str


@dataclass
class LabelledAxis:
    """An axis of a weight, see `WeightAxis`, with labels."""

    layer: str
    weight: int
    axis: int
    computes: bool
    labels: np.ndarray


@dataclass
class Tracking:
    """Labels, and what is known of them.

    Attributes:
        parents: Parent of each label in the union-find forest.
        removable: Whether a layer that can be made narrower computes the label's channel.
        reasons: Reasons why labels stay, by label; None where no report is due, such as for the image and the classes.
        axes: Axes of weights along which channels lie.
    """

    parents: list[int] = field(default_factory=list)
    removable: list[bool] = field(default_factory=list)
    reasons: dict[int, Reason | None] = field(default_factory=dict)
    axes: list[LabelledAxis] = field(default_factory=list)

    def fresh(self, count: int, removable: bool = True) -> np.ndarray:
        """Makes labels [count] of new channels, which a layer that can be made narrower computes, or not."""
        first = len(self.parents)
        self.parents += range(first, first + count)
        self.removable += [removable] * count
        return np.arange(first, first + count)

    def root(self, label: int) -> int:
        """Finds the representative of all labels that are coupled with a label: the oldest one."""
        while self.parents[label] != label:
            self.parents[label] = self.parents[self.parents[label]]
            label = self.parents[label]
        return label

    def roots(self, labels: np.ndarray) -> np.ndarray:
        """Finds the representative of each label."""
        return np.array([self.root(label) for label in labels.tolist()], int)

    def couple(self, labels: np.ndarray, others: np.ndarray) -> None:
        """Couples labels pairwise: the channels of each pair are removed together."""
        for one, other in zip(labels.tolist(), others.tolist(), strict=True):
            first, second = sorted((self.root(one), self.root(other)))
            self.parents[second] = first

    def keep(self, labels: np.ndarray, reason: Reason | None) -> None:
        """Keeps the channels of labels, and thus those coupled with them."""
        for label in np.unique(labels).tolist():
            self.reasons.setdefault(label, reason)

    def axis(self, layer: str, weight: int, axis: int, labels: np.ndarray, computes: bool = False) -> None:
        """Records the channels along an axis of a weight."""
        self.axes.append(LabelledAxis(layer, weight, axis, computes, labels))

    def kept_roots(self) -> dict[int, list[Reason]]:
        """Lists the representatives of kept channels with the reasons; none for those of the image and the classes."""
        found: dict[int, list[Reason]] = {}
        for label, reason in self.reasons.items():
            found.setdefault(self.root(label), []).extend([reason] if reason else [])
        for label, reason in self.reasons.items():
            if reason is None:
                found[self.root(label)] = []
        return found

    def removable_roots(self) -> Iterable[int]:
        """Lists the representatives of channels that a layer that can be made narrower computes."""
        return {self.root(label) for label, removable in enumerate(self.removable) if removable}
