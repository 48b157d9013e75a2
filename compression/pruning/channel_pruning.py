# SPDX-License-Identifier: Apache-2.0
"""Channel pruning of students, except for the training: decides which channels are removed, and removes them.

The decision is a small record, so that an interrupted run continues with the same channels: if importance were measured
again, two channels of nearly equal importance could change places, and the checkpoint would be of another network.
"""

from itertools import islice

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.channels.removal import mean_inputs, remove_channels
from learn2compress.compression.family.channels import with_widths
from learn2compress.compression.family.model import normalize
from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.pruning.channel_targets import choose_widths
from learn2compress.compression.pruning.importance import magnitude_importance, taylor_importance
from learn2compress.compression.pruning.prunable import Prunable
from learn2compress.compression.pruning.sensitivity import channel_sensitivity
from learn2compress.compression.pruning.sparsity_allocation import loss_of_channels
from learn2compress.schemas.config import ChannelPassConfig, LossConfig
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.manifests import ChannelSensitivity, Record

_IMPORTANCE_BATCHES = 10  # as in the paper
_MEAN_BATCHES = 4


class ChannelPlan(Record):
    """The channels that are kept."""

    kept: dict[str, list[int]]  # sorted indices of units by group
    sensitivity: list[ChannelSensitivity]

    def widths(self) -> dict[str, int]:
        """Counts the units that each group keeps."""
        return {group: len(units) for group, units in self.kept.items()}


def plan_channels(
    students: Prunable,
    config: ChannelPassConfig,
    batches: tf.data.Dataset,
    images: np.ndarray,
    labels: np.ndarray,
    loss: LossConfig,
) -> ChannelPlan:
    """Decides which channels are kept.

    Args:
        students: Trained students.
        config: Target and criterion.
        batches: Training batches, see `JointTrainer`; the first ones are used.
        images: Validation images [n, h, w, c] uint8 for measuring the sensitivity of the groups; if there are none,
            groups are compared by importance alone.
        labels: [n] integers.
        loss: Distillation loss.

    Returns:
        The channels to keep, and the sensitivity of each group.

    Raises:
        FamilyError: The target cannot be reached, or there is no target.
    """
    if config.criterion == "taylor":
        importance = taylor_importance(students.channels, islice(batches, _IMPORTANCE_BATCHES), loss)
    else:
        importance = magnitude_importance(students.channels)
    loss_increase, sensitivity = importance, []
    if len(images):
        sensitivity = channel_sensitivity(students.channels, importance, images, labels)
        measured = {group.group: group.removed for group in sensitivity}
        loss_increase = {group: loss_of_channels(values, measured[group]) for group, values in importance.items()}
    if config.channels is None:
        raise FamilyError("prune.channels must be a target; got none. Write for example {bytes: 50%}.")
    widths = choose_widths(students, config.channels, loss_increase)
    kept = {
        group: sorted(np.argsort(-importance[group], kind="stable")[:width].tolist()) for group, width in widths.items()
    }
    sensitivity = [group.model_copy(update={"kept": widths[group.group]}) for group in sensitivity]
    return ChannelPlan(kept=kept, sensitivity=sensitivity)


def without_channels(
    students: Prunable, plan: ChannelPlan, batches: tf.data.Dataset
) -> tuple[keras.Model, FamilySpec | None]:
    """Builds the students without the removed channels.

    Args:
        students: Trained students; they are not changed.
        plan: The channels that are kept.
        batches: Training batches, on the first of which the mean output of each channel is measured.

    Returns:
        The joint model, and its shape if it is of the built-in family.
    """
    means = mean_inputs(students.channels, (normalize(images) for images, *_ in islice(batches, _MEAN_BATCHES)))
    kept = {group: np.array(units) for group, units in plan.kept.items()}
    family = remove_channels(students.channels, kept, means)
    return family, with_widths(students.spec, plan.widths()) if students.spec else None
