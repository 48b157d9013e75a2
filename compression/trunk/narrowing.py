# SPDX-License-Identifier: Apache-2.0
"""Removes channels of a family on the teacher's trunk until each student fits its budget.

The importance of a channel is the first-order Taylor criterion with gates (Molchanov et al., 1906.10771). The layers
that compute a channel are linear in their weights w, so the gradient of its gate is the sum of w · ∂E/∂w over them.
Students are treated smallest first. From a student's groups that no smaller student contains, the channels with the
least importance per saved byte (or MAC) are removed until its budget holds. The mean of a removed channel is added to
the biases behind it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.channels.groups import Channels, containing_outputs, find_channels
from learn2compress.compression.channels.removal import mean_inputs, remove_channels
from learn2compress.compression.family.spec import Cost
from learn2compress.compression.graphs.layer_walk import steps_of
from learn2compress.compression.trunk.choice import Budget
from learn2compress.compression.trunk.spec import StepCost, outputs_of, step_cost
from learn2compress.schemas.errors import FamilyError

_BATCH = 32
_MEAN_BATCHES = 4
_TEMPERATURE = 4.0


def family_costs(family: keras.Model, names: Sequence[str], classes: int, label_bytes: int) -> dict[str, Cost]:
    """Compute the costs of the students of a family by arithmetic.

    Args:
        family: Joint model with one output per student.
        names: Names of the students, in the order of the outputs.
        classes: Number of classes.
        label_bytes: Bytes of the class names in each file.
    """
    steps = steps_of(family)
    contained = containing_outputs(family, steps)
    costs = {}
    for number, name in enumerate(names):
        total, features = StepCost(), 0
        for step, outputs in zip(steps, contained, strict=True):
            if number not in outputs:
                continue
            if step.layer.name == f"{name}_logits":
                features = int(step.layer.kernel.shape[0])
            elif step.layer.name != f"{name}_pool":
                total = total + step_cost(step.layer, outputs_of(step)[0])
        costs[name] = total.student(features, classes, label_bytes)
    return costs


def narrow_family(
    family: keras.Model,
    names: Sequence[str],
    budgets: Mapping[str, Budget],
    images: np.ndarray,
    logits: np.ndarray,
    label_bytes: int,
) -> tuple[keras.Model, dict[str, float]]:
    """Remove channels until each student fits its budget.

    Args:
        family: Joint model with the teacher's weights and heads.
        names: Names of the students, smallest first.
        budgets: Budgets by student.
        images: Normalized training images at the students' size, [images, height, width, channels] float32.
        logits: The teacher's logits, [images, classes].
        label_bytes: Bytes of the class names in each file.

    Returns:
        The family with fewer channels, or the family itself if every student fits, and the fraction of the channels
        that each student keeps.

    Raises:
        FamilyError: A budget cannot be reached although all groups are at their smallest width.
    """
    classes = logits.shape[-1]
    costs = family_costs(family, names, classes, label_bytes)
    if all(budgets[name].allows(costs[name]) for name in names):
        return family, dict.fromkeys(names, 1.0)
    channels = find_channels(family, names)
    importance = taylor_importance(channels, images, logits)
    arithmetic = _Arithmetic(channels, names, classes, label_bytes)
    widths = np.array([group.width for group in channels.groups])
    settled: set[str] = set()
    for name in names:
        own = [
            number
            for number, group in enumerate(channels.groups)
            if name in group.students and not settled & set(group.students)
        ]
        _shrink(arithmetic, widths, own, importance, name, budgets[name])
        settled.add(name)
    kept = {
        group.name: np.sort(np.argsort(-importance[number], kind="stable")[: widths[number]])
        for number, group in enumerate(channels.groups)
    }
    batches = [tf.constant(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)][:_MEAN_BATCHES]
    narrowed = remove_channels(channels, kept, mean_inputs(channels, batches))
    fractions = {
        name: float(
            sum(widths[n] for n, group in enumerate(channels.groups) if name in group.students)
            / sum(group.width for group in channels.groups if name in group.students)
        )
        for name in names
    }
    return narrowed, fractions


def taylor_importance(channels: Channels, images: np.ndarray, logits: np.ndarray) -> list[np.ndarray]:
    """Measure the importance of the units of each group, [width] float64.

    Args:
        channels: Channels of a joint model.
        images: Normalized images, [images, height, width, channels] float32.
        logits: The teacher's logits, [images, classes].
    """
    model = channels.model
    layers = {step.layer.name: step.layer for step in channels.steps}
    axes = [axis for axis in channels.axes if axis.computes or _is_bias(layers[axis.layer], axis.weight)]
    variables = [layers[axis.layer].weights[axis.weight] for axis in axes]

    @tf.function(autograph=False)
    def products(batch: tf.Tensor, targets: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            losses = [
                tf.reduce_mean(
                    tf.nn.softmax_cross_entropy_with_logits(
                        tf.nn.softmax(targets / _TEMPERATURE), output / _TEMPERATURE
                    )
                )
                for output in tf.nest.flatten(model(batch, training=False))
            ]
            total = tf.add_n(losses)
        gradients = tape.gradient(total, variables, unconnected_gradients="zero")
        found = []
        for axis, variable, gradient in zip(axes, variables, gradients, strict=True):
            others = [one for one in range(variable.shape.rank) if one != axis.axis % variable.shape.rank]
            found.append(tf.reduce_sum(variable * gradient, others))
        return found

    importance = [np.zeros(group.width) for group in channels.groups]
    for start in range(0, len(images) - _BATCH + 1, _BATCH):
        gates = [np.zeros(group.width) for group in channels.groups]
        batch = tf.constant(images[start : start + _BATCH]), tf.constant(logits[start : start + _BATCH], tf.float32)
        for axis, values in zip(axes, products(*batch), strict=True):
            free = axis.placement.group >= 0
            for group in np.unique(axis.placement.group[free]):
                positions, units = axis.placement.of_group(int(group))
                np.add.at(gates[group], units, values.numpy()[positions])
        for total, gate in zip(importance, gates, strict=True):
            total += gate**2
    return importance


def _is_bias(layer: keras.layers.Layer, weight: int) -> bool:
    return getattr(layer, "use_bias", False) and weight == len(layer.weights) - 1


@dataclass(frozen=True)
class _Line:
    """A step's cost as a function of the numbers of kept channels."""

    cost: StepCost
    inputs: tuple[int, np.ndarray]
    outputs: tuple[int, np.ndarray]
    mixes: bool


class _Arithmetic:
    """Costs of the students for any widths of the groups."""

    def __init__(self, channels: Channels, names: Sequence[str], classes: int, label_bytes: int) -> None:
        self.names, self.classes, self.label_bytes = tuple(names), classes, label_bytes
        count = len(channels.groups)
        contained = containing_outputs(channels.model, channels.steps)
        self.lines: list[tuple[_Line, set[int], str]] = []
        for step, outputs in zip(channels.steps, contained, strict=True):
            line = _Line(
                step_cost(step.layer, outputs_of(step)[0]),
                channels.tensors[step.inputs[0]].counts(count),
                channels.tensors[step.outputs[0]].counts(count),
                _mixes(step.layer),
            )
            self.lines.append((line, outputs, step.layer.name))
        self.full = np.array([group.width for group in channels.groups])

    def cost(self, name: str, widths: np.ndarray) -> Cost:
        """Compute the cost of a student."""
        number = self.names.index(name)
        total, features = StepCost(), 0
        for line, outputs, layer in self.lines:
            if number not in outputs:
                continue
            entering, leaving = (_count(one, widths) for one in (line.inputs, line.outputs))
            if layer == f"{name}_logits":
                features = entering
            elif layer != f"{name}_pool":
                total = total + self._scaled(line, entering, leaving)
        return total.student(features, self.classes, self.label_bytes)

    def _scaled(self, line: _Line, entering: int, leaving: int) -> StepCost:
        cost = line.cost
        if not cost.weights:
            return cost
        before_in, before_out = (_count(one, self.full) for one in (line.inputs, line.outputs))
        share = leaving / before_out * (entering / before_in if line.mixes else 1)
        return replace(
            cost,
            weights=round(cost.weights * share),
            biases=leaving,
            macs=round(cost.macs * share),
            widths=frozenset({leaving}),
        )


def _shrink(
    arithmetic: _Arithmetic,
    widths: np.ndarray,
    own: Sequence[int],
    importance: Sequence[np.ndarray],
    name: str,
    budget: Budget,
) -> None:
    """Reduce the widths of a student's own groups until its budget holds; changes `widths`."""
    groups = [np.sort(values) for values in importance]
    while not budget.allows(cost := arithmetic.cost(name, widths)):
        best: tuple[float, int, int] | None = None
        for number in own:
            full = len(groups[number])
            step = 8 if full >= 64 else 4
            least = max(8, full // 4)
            if widths[number] - step < least:
                continue
            fewer = widths.copy()
            fewer[number] -= step
            saved = budget.measure(cost) - budget.measure(arithmetic.cost(name, fewer))
            removed = full - widths[number]
            lost = float(groups[number][removed : removed + step].sum())
            if saved > 0 and (best is None or lost / saved < best[0]):
                best = lost / saved, number, step
        if best is None:
            raise FamilyError(
                f"students.sizes.{name} must be within reach of the teacher's exits; got {budget}, and with all "
                "channels removed that may be, the student is larger. Raise it, or set students.from: built_in."
            )
        widths[best[1]] -= best[2]


def _mixes(layer: Any) -> bool:
    return type(layer) in (keras.layers.Conv2D, keras.layers.Dense) and getattr(layer, "groups", 1) == 1


def _count(counts: tuple[int, np.ndarray], widths: np.ndarray) -> int:
    fixed, units = counts
    return fixed + int(units @ widths)
