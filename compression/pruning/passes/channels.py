# SPDX-License-Identifier: Apache-2.0
"""The pass `channels`: removes the least important channels and fine-tunes the channel-pruned family.

It reduces the file size, the compute and the latency. See channel_pruning.py for the choice of the channels.
"""

from dataclasses import replace

from learn2compress.compression.pruning.channel_pruning import ChannelPlan, plan_channels, remove_channels
from learn2compress.compression.pruning.channel_targets import check_reachable, describe_widths
from learn2compress.compression.pruning.passes.base import Context, Pass, Work
from learn2compress.compression.pruning.passes.fine_tuning import fine_tune
from learn2compress.compression.pruning.passes.rows import remove_rows
from learn2compress.modalities.text.lookup.dictionary import Dictionary
from learn2compress.schemas.config import ChannelPassConfig
from learn2compress.schemas.manifests import Sensitivity
from learn2compress.schemas.progress import say


class ChannelPass(Pass[ChannelPassConfig]):
    """Removes channels, or rows of a dictionary, and fine-tunes; a user-defined architecture stays as it is."""

    name = "channels"
    parameters_type = ChannelPassConfig

    def check(self, work: Work) -> None:
        """Refuses a target that no widths meet.

        Args:
            work: Students before the first pass.

        Raises:
            FamilyError: No widths meet the target; the message names the smallest reachable value.
        """
        if self.parameters.channels and work.spec:
            check_reachable(work.spec, self.parameters.channels)

    def run(self, work: Work, context: Context) -> Work:
        """Removes channels from a built-in family, if a target is set; see `Pass.run`."""
        config, spec = self.parameters, work.spec
        if config.channels is None:
            return work
        if work.dictionary is not None:
            return remove_rows(work, Dictionary.from_bytes(work.dictionary), context, config)
        if spec is None:
            return work.with_note("no channels were removed: channel pruning supports the built-in family only")
        data, recipe = context.data_for(work), context.recipe
        images, labels = data.first_validation(config.sensitivity_images)
        plan = context.remembered(
            "channels.json",
            ChannelPlan,
            lambda: plan_channels(work.family, spec, config, data.epoch(0), images, labels, recipe.loss),
        )
        family, narrower = remove_channels(work.family, spec, plan, data.epoch(0))
        widths = describe_widths(spec, narrower)
        say(widths)
        work = replace(work, family=family, spec=narrower).with_note(f"{config.criterion} pruning of {widths}")
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
