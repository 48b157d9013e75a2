# SPDX-License-Identifier: Apache-2.0
"""The pass `channels`: removes the least important channels and fine-tunes the channel-pruned students.

It reduces the file size, the compute and the latency. See channel_pruning.py for the choice of the channels.
"""

from dataclasses import replace

from learn2compress.compression.pruning.channel_pruning import ChannelPlan, plan_channels, without_channels
from learn2compress.compression.pruning.channel_targets import check_reachable, describe_widths
from learn2compress.compression.pruning.passes.base import Context, Pass, Work
from learn2compress.compression.pruning.passes.fine_tuning import fine_tune
from learn2compress.compression.pruning.passes.rows import remove_rows
from learn2compress.compression.pruning.prunable import Prunable, prunable
from learn2compress.modalities.text.lookup.dictionary import Dictionary
from learn2compress.schemas.config import ChannelPassConfig
from learn2compress.schemas.manifests import DEFAULT_MODALITY, Sensitivity
from learn2compress.schemas.progress import say

_SHOWN = 3  # layers that keep their channels, in the note


class ChannelPass(Pass[ChannelPassConfig]):
    """Removes channels of the built-in family or of user-defined students, or rows of a dictionary, and fine-tunes."""

    name = "channels"
    parameters_type = ChannelPassConfig

    def check(self, work: Work) -> None:
        """Refuses a target that no widths meet.

        Args:
            work: Students before the first pass.

        Raises:
            FamilyError: No widths meet the target; the message names the smallest reachable value.
        """
        if self.parameters.channels and work.dictionary is None:
            check_reachable(_prunable(work), self.parameters.channels)

    def run(self, work: Work, context: Context) -> Work:
        """Removes channels if a target is set; see `Pass.run`."""
        config = self.parameters
        if config.channels is None:
            return work
        if work.dictionary is not None:
            return remove_rows(work, Dictionary.from_bytes(work.dictionary), context, config)
        if context.recipe.modality != DEFAULT_MODALITY:
            return work.with_note("no channels were removed: channel pruning supports students of images only")
        students = _prunable(work)
        data, recipe = context.data_for(work), context.recipe
        images, labels = data.first_validation(config.sensitivity_images)
        plan = context.remembered(
            "channels.json",
            ChannelPlan,
            lambda: plan_channels(students, config, data.epoch(0), images, labels, recipe.loss),
        )
        family, narrower = without_channels(students, plan, data.epoch(0))
        widths = describe_widths(students, plan.widths())
        say(widths)
        work = replace(work, family=family, spec=narrower).with_note(f"{config.criterion} pruning of {widths}")
        if stays := students.channels.kept:
            shown = [*map(str, stays[:_SHOWN]), *([f"{len(stays) - _SHOWN} others"] if len(stays) > _SHOWN else [])]
            work = work.with_note(f"layers whose channels cannot be followed: {'; '.join(shown)}")
        if len(images):
            measured = Sensitivity(images=len(images), layers=[], channels=plan.sensitivity)
            work = replace(work, sensitivity=measured)
        recipe = replace(
            recipe,
            stage="thinned",
            epochs=config.channel_epochs,
            learning_rate=config.channel_learning_rate,
        )
        return fine_tune(work, context, recipe, "channels.npz")


def _prunable(work: Work) -> Prunable:
    return prunable(work.family, work.names, work.spec, work.label_bytes)
