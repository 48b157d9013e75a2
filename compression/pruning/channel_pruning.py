# SPDX-License-Identifier: Apache-2.0
"""Structured pruning from end to end but for the training: which channels go, and the family without them.

What was decided is a small record, so that an interrupted work goes on with the same channels: measured again, two that
matter about as little could change places, and a checkpoint would be of another network.
"""

from itertools import islice

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.model import normalize
from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.pruning.channel_removal import mean_inputs, thin_family
from learn2compress.compression.pruning.channel_targets import choose_widths
from learn2compress.compression.pruning.importance import magnitude_importance, taylor_importance
from learn2compress.compression.pruning.sensitivity import channel_sensitivity
from learn2compress.compression.pruning.sparsity_allocation import scale_importance
from learn2compress.schemas.config import ChannelPassConfig, LossConfig
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.manifests import ChannelSensitivity, Record

_IMPORTANCE_BATCHES = 10  # as many as the paper's authors use
_MEAN_BATCHES = 4


class ChannelPlan(Record):
    """Which channels stay."""

    kept: dict[str, list[int]]  # by group
    sensitivity: list[ChannelSensitivity]


def plan_channels(
    family: keras.Model,
    spec: FamilySpec,
    config: ChannelPassConfig,
    batches: tf.data.Dataset,
    images: np.ndarray,
    labels: np.ndarray,
    loss: LossConfig,
) -> ChannelPlan:
    """Decides which channels go.

    Args:
        family: The trained joint model.
        spec: Its shape.
        config: The target and the criterion.
        batches: Training batches, see `JointTrainer`; some of them are looked at.
        images: [n, h, w, c] uint8, validation images by which groups are compared; none: by importance alone.
        labels: [n] integers.
        loss: Loss of the distillation.

    Raises:
        FamilyError: The target is out of reach, or there is none.
    """
    if config.criterion == "taylor":
        importance = taylor_importance(family, spec, islice(batches, _IMPORTANCE_BATCHES), loss)
    else:
        importance = magnitude_importance(family, spec)
    damage, sensitivity = importance, []
    if len(images):
        sensitivity = channel_sensitivity(family, spec, importance, images, labels)
        damage = scale_importance(importance, {group.group: group.removed for group in sensitivity})
    if config.channels is None:
        raise FamilyError("prune.channels must be a target; got none. Write for example {bytes: 50%}.")
    widths = choose_widths(spec, config.channels, damage)
    kept = {
        group: sorted(np.argsort(-importance[group], kind="stable")[:width].tolist()) for group, width in widths.items()
    }
    sensitivity = [group.model_copy(update={"kept": widths[group.group]}) for group in sensitivity]
    return ChannelPlan(kept=kept, sensitivity=sensitivity)


def remove_channels(
    family: keras.Model, spec: FamilySpec, plan: ChannelPlan, batches: tf.data.Dataset
) -> tuple[keras.Model, FamilySpec]:
    """Builds the family without the channels that go.

    Args:
        batches: Training batches; on some of them it is measured what the channels gave on average.
    """
    means = mean_inputs(family, (normalize(images) for images, *_ in islice(batches, _MEAN_BATCHES)))
    return thin_family(family, spec, {group: np.array(kept) for group, kept in plan.kept.items()}, means)
