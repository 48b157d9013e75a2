# SPDX-License-Identifier: Apache-2.0
"""Removes channels of a family on the teacher's trunk until each student fits its budget.

Importance is the Taylor criterion, and costs are those of channel pruning. Students are treated smallest first. From a
student's groups that no smaller student contains, the channels with the least importance per saved byte (or MAC) are
removed until its budget holds. The mean of a removed channel is added to the biases behind it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tf_keras as keras

from learn2compress.compression.channels.costs import KINDS, Costs, Widths
from learn2compress.compression.channels.groups import find_channels
from learn2compress.compression.channels.removal import mean_inputs, remove_channels
from learn2compress.compression.family.model import normalize
from learn2compress.compression.family.spec import Cost
from learn2compress.compression.pruning.importance import taylor_importance
from learn2compress.compression.trunk.choice import Budget
from learn2compress.schemas.config import LossConfig
from learn2compress.schemas.errors import FamilyError

_BATCH = 32
_MEAN_BATCHES = 4
_LOSS = LossConfig(soft_weight=1.0)


def family_costs(family: keras.Model, names: Sequence[str], label_bytes: int) -> dict[str, Cost]:
    """Compute the costs of the students of a family by arithmetic.

    Args:
        family: Joint model with one output per student.
        names: Names of the students, in the order of the outputs.
        label_bytes: Bytes of the class names in each file.
    """
    return _costs(Costs(find_channels(family, names), label_bytes).at())


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
        images: Training images at the students' size, [images, height, width, channels], 0 to 255.
        logits: The teacher's logits, [images, classes] float32.
        label_bytes: Bytes of the class names in each file.

    Returns:
        The family with fewer channels, or the family itself if every student fits, and the fraction of the channels
        that each student keeps.

    Raises:
        FamilyError: A budget cannot be reached although all groups are at their smallest width.
    """
    channels = find_channels(family, names)
    state = Costs(channels, label_bytes).at()
    costs = _costs(state)
    if all(budgets[name].allows(costs[name]) for name in names):
        return family, dict.fromkeys(names, 1.0)
    nothing = np.full(_BATCH, -1)
    batches = [
        (images[start : start + _BATCH], nothing, logits[start : start + _BATCH])
        for start in range(0, len(images) - _BATCH + 1, _BATCH)
    ]
    importance = taylor_importance(channels, batches, _LOSS)
    settled: set[str] = set()
    for name in names:
        own = [
            number
            for number, group in enumerate(channels.groups)
            if name in group.students and not settled & set(group.students)
        ]
        _shrink(state, own, importance, name, budgets[name])
        settled.add(name)
    kept = {
        group.name: np.sort(np.argsort(-importance[group.name], kind="stable")[: state.widths[number]])
        for number, group in enumerate(channels.groups)
    }
    means = mean_inputs(channels, [normalize(pixels) for pixels, *_ in batches[:_MEAN_BATCHES]])
    fractions = {
        name: float(
            sum(state.widths[n] for n, group in enumerate(channels.groups) if name in group.students)
            / sum(group.width for group in channels.groups if name in group.students)
        )
        for name in names
    }
    return remove_channels(channels, kept, means), fractions


def _costs(state: Widths) -> dict[str, Cost]:
    return {name: _cost(state.figures, number) for number, name in enumerate(state.costs.channels.names)}


def _cost(figures: np.ndarray, student: int) -> Cost:
    size, macs, parameters = (int(figures[KINDS.index(kind), student]) for kind in ("bytes", "macs", "parameters"))
    return Cost(parameters, macs, size)


def _shrink(
    state: Widths, own: Sequence[int], importance: Mapping[str, np.ndarray], student: str, budget: Budget
) -> None:
    """Reduce the widths of a student's own groups until its budget holds; changes the state."""
    groups, index = state.costs.channels.groups, state.costs.channels.names.index(student)
    ascending = {number: np.sort(importance[groups[number].name]) for number in own}
    while not budget.allows(cost := _cost(state.figures, index)):
        best: tuple[float, int, int] | None = None
        for number in own:
            full, width = groups[number].width, int(state.widths[number])
            step = 8 if full >= 64 else 4
            if width - step < max(8, full // 4):
                continue
            saved = budget.measure(cost) - budget.measure(_cost(state.changed(number, width - step), index))
            lost = float(ascending[number][full - width : full - width + step].sum())
            if saved > 0 and (best is None or lost / saved < best[0]):
                best = lost / saved, number, width - step
        if best is None:
            raise FamilyError(
                f"students.sizes.{student} must be within reach of the teacher's exits; got {budget}, and with all "
                "channels removed that may be, the student is larger. Raise it, or set students.from: built_in."
            )
        state.change(best[1], best[2])
