# SPDX-License-Identifier: Apache-2.0
"""Finds the channels of a model that can only be removed together, from the graph of its layers.

A channel cannot be removed from a single layer. A residual sum adds channel to channel, a depthwise layer has the
channels of its input, a concatenation puts channels side by side, and a dense layer behind a flattened image reads each
channel once for every pixel. Channels that depend on each other form a unit, which is removed as a whole, from all
layers and all students that contain it. Units that lie in the same places of the same weights can take each other's
place, and form a group: the wider the group, the more channels the network has there.

What is not understood keeps its channels: a layer of another class, an operation that mixes channels, weights that are
shared by two calls. All channels that are coupled with them stay as well, and the reason names the layer.

Source: Fang et al., DepGraph, 2301.12900. Here dependencies are found for single channels instead of whole layers, so
that concatenations, slices and flattened images need no further index arithmetic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.channels.layer_rules import RULES, reason
from learn2compress.compression.channels.operation_rules import call_of, follow_operation
from learn2compress.compression.channels.placement import Placement, WeightAxis
from learn2compress.compression.channels.tracking import NotFollowed, Reason, Tracking
from learn2compress.compression.graphs.layer_walk import Step, output_ids, steps_of

CHANNEL_STEP = 4  # widths are multiples of it: vector units and int8 kernels of phones process four channels at a time
MIN_CHANNELS = 8  # minimum width of a group: narrower layers block the signal
MIN_FRACTION = 0.1  # minimum fraction of a group's channels that is kept, for the same reason


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can only be removed together, in units that can take each other's place.

    Attributes:
        name: Name of the first layer that computes them.
        layers: Names of all layers that compute them: the first one, and those that are added to it.
        width: Number of units.
        students: Names of the students that contain the group, in the order of the outputs.
        step: Widths are multiples of this number of units.
    """

    name: str
    layers: tuple[str, ...]
    width: int
    students: tuple[str, ...]
    step: int = CHANNEL_STEP

    @property
    def min_width(self) -> int:
        """The smallest width that pruning may leave, a multiple of `step` unless the group is narrower."""
        floor = max(MIN_CHANNELS * self.step / CHANNEL_STEP, MIN_FRACTION * self.width)
        return min(self.width, int(-(-floor // self.step)) * self.step)


@dataclass(frozen=True)
class KeptChannels:
    """Channels that stay because a layer cannot be followed.

    Attributes:
        layer: Name of that layer.
        kind: Its class.
        why: A phrase behind its name.
        channels: Number of channels that stay because of it, in all other layers that compute them.
    """

    layer: str
    kind: str
    why: str
    channels: int

    def __str__(self) -> str:
        return f"{self.layer} ({self.kind}) {self.why}: {self.channels} channels stay"


@dataclass(frozen=True)
class Channels:
    """The channels of a model.

    Attributes:
        model: The model.
        names: Names of the students, in the order of the outputs.
        steps: Steps of the model.
        groups: Channels that can be removed, in the order in which they are computed.
        tensors: Placement of the channels of each tensor, by its id (see graphs/layer_walk.py).
        axes: Axes of weights along which channels lie.
        kept: Channels that stay.
    """

    model: keras.Model
    names: tuple[str, ...]
    steps: tuple[Step, ...]
    groups: tuple[ChannelGroup, ...]
    tensors: Mapping[str, Placement] = field(repr=False)
    axes: tuple[WeightAxis, ...] = field(repr=False)
    kept: tuple[KeptChannels, ...]

    def renamed(self, names: Mapping[str, str], layers: Mapping[str, tuple[str, ...]]) -> "Channels":
        """Gives the groups other names, in another order.

        Args:
            names: New name by old name of the group, in the new order; all groups.
            layers: New names of the layers, by old name of the group.
        """
        order = [self.index[name] for name in names]
        inverse = np.append(np.argsort(order), -1)  # the last one for -1, channels of no group

        def moved(placement: Placement) -> Placement:
            return replace(placement, group=inverse[placement.group])

        return replace(
            self,
            groups=tuple(
                replace(self.groups[self.index[old]], name=new, layers=layers[old]) for old, new in names.items()
            ),
            tensors={i: moved(placement) for i, placement in self.tensors.items()},
            axes=tuple(replace(axis, placement=moved(axis.placement)) for axis in self.axes),
        )

    @property
    def index(self) -> dict[str, int]:
        """Index of each group, by name."""
        return {group.name: number for number, group in enumerate(self.groups)}

    def masks(self, kept: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Converts kept units of some groups to a mask [width] bool for each group; all units of other groups stay.

        Args:
            kept: Indices of the units that are kept, by name of the group.
        """
        masks = [np.ones(group.width, bool) for group in self.groups]
        for name, units in kept.items():
            mask = masks[self.index[name]]
            mask[:] = False
            mask[np.asarray(units, int)] = True
        return masks


def find_channels(model: keras.Model, names: Sequence[str] | None = None) -> Channels:
    """Finds the channel groups of a model, or of the joint model of several students.

    Args:
        model: Functional model without nested models (see graphs/flattening.py); it is not changed.
        names: Names of its outputs; default: those of Keras.

    Returns:
        The groups, and what stays with the reasons.
    """
    steps, tracking = steps_of(model), Tracking()
    labels: dict[str, np.ndarray] = {}
    for tensor in model.inputs:
        labels[str(id(tensor))] = tracking.fresh(tensor.shape[-1] or 1, removable=False)
        tracking.keep(labels[str(id(tensor))], None)
    calls: dict[int, int] = {}
    for step in steps:
        calls[id(step.layer)] = calls.get(id(step.layer), 0) + 1
    for step in steps:
        entering = [labels[i] for i in step.inputs]
        shared = bool(step.layer.weights) and calls[id(step.layer)] > 1
        labels |= zip(step.outputs, _follow(step, entering, tracking, shared), strict=True)
    for i in output_ids(model):
        tracking.keep(labels[i], None)
    names = tuple(names or model.output_names)
    return _collect(model, names, steps, labels, tracking)


def containing_outputs(model: keras.Model, steps: Sequence[Step]) -> list[set[int]]:
    """Lists for each step the numbers of the outputs that depend on it."""
    wanted: dict[str, set[int]] = {}
    for number, i in enumerate(output_ids(model)):
        wanted.setdefault(i, set()).add(number)
    found: list[set[int]] = []
    for step in reversed(steps):
        users = set().union(*(wanted.get(i, set()) for i in step.outputs))
        found.append(users)
        for i in step.inputs:
            wanted.setdefault(i, set()).update(users)
    return found[::-1]


def _follow(step: Step, inputs: list[np.ndarray], tracking: Tracking, shared: bool) -> list[np.ndarray]:
    """Returns the labels of a step's outputs; if it cannot be followed, inputs and outputs stay."""
    sizes = [tensor.shape[-1] or 1 if tensor.shape.rank else 1 for tensor in tf.nest.flatten(step.node.outputs)]
    recorded = len(tracking.axes)
    try:
        if shared:
            raise NotFollowed("has weights that are shared by several calls")
        call, rule = call_of(step), RULES.get(type(step.layer))
        if call is not None:
            outputs = follow_operation(step, call, inputs, tracking)
        elif rule is not None:
            outputs = [rule(step, inputs, tracking)]
        else:
            raise NotFollowed("is of a class whose channels cannot be followed")
        if [len(one) for one in outputs] != sizes:
            raise NotFollowed("has outputs of an unexpected width")
    except NotFollowed as error:
        del tracking.axes[recorded:]
        outputs = [tracking.fresh(size, removable=False) for size in sizes]
        for labels in (*inputs, *outputs):
            tracking.keep(labels, reason(step, str(error)))
    return outputs


def _collect(
    model: keras.Model,
    names: tuple[str, ...],
    steps: tuple[Step, ...],
    labels: Mapping[str, np.ndarray],
    tracking: Tracking,
) -> Channels:
    """Numbers units and groups, and places them along tensors and weights."""
    blocked = tracking.kept_roots()
    removable = set(tracking.removable_roots())
    places: dict[int, list[tuple[int, int]]] = {}  # axis and number of positions, by representative
    for number, axis in enumerate(tracking.axes):
        roots, counts = np.unique(tracking.roots(axis.labels), return_counts=True)
        for root, count in zip(roots.tolist(), counts.tolist(), strict=True):
            places.setdefault(root, []).append((number, count))
    members: dict[tuple, list[int]] = {}
    for root in sorted(places):
        if root in removable and root not in blocked:
            members.setdefault(tuple(places[root]), []).append(root)
    of_root = {root: (group, unit) for group, own in enumerate(members.values()) for unit, root in enumerate(own)}

    def place(some: np.ndarray) -> Placement:
        pairs = [of_root.get(root, (-1, 0)) for root in tracking.roots(some).tolist()]
        group, unit = np.array(pairs, int).reshape(-1, 2).T
        return Placement(group, unit)

    users = {step.layer.name: outputs for step, outputs in zip(steps, containing_outputs(model, steps), strict=True)}
    groups, taken = [], set()
    for signature, own in members.items():
        computing = [(tracking.axes[n].layer, count) for n, count in signature if tracking.axes[n].computes]
        layers = tuple(dict.fromkeys(layer for layer, _ in computing))
        name, number = layers[0], 2
        while name in taken:
            name, number = f"{layers[0]}/{number}", number + 1
        taken.add(name)
        students = set().union(*(users[layer] for layer in layers))
        step = max(1, CHANNEL_STEP // max(count for _, count in computing))
        contained = tuple(one for n, one in enumerate(names) if n in students)
        groups.append(ChannelGroup(name, layers, len(own), contained, step))
    return Channels(
        model,
        names,
        steps,
        tuple(groups),
        {i: place(some) for i, some in labels.items()},
        tuple(WeightAxis(a.layer, a.weight, a.axis, a.computes, place(a.labels)) for a in tracking.axes),
        _kept(tracking, blocked, removable),
    )


def _kept(tracking: Tracking, blocked: Mapping[int, list[Reason]], removable: set[int]) -> tuple[KeptChannels, ...]:
    """Counts the channels that stay, by reason; those with several reasons count for each of them."""
    counts: dict[Reason, int] = {}
    sizes = dict.fromkeys(removable, 0)
    for label, removes in enumerate(tracking.removable):
        if removes:
            sizes[tracking.root(label)] += 1
    for root, reasons in blocked.items():
        for one in dict.fromkeys(reasons) if root in removable else ():
            counts[one] = counts.get(one, 0) + sizes[root]
    return tuple(KeptChannels(one.layer, one.kind, one.why, count) for one, count in counts.items())
