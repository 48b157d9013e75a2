# SPDX-License-Identifier: Apache-2.0
"""The pass `channels`: removes whole channels, those that matter least, and fine-tunes what is left.

What shrinks is the file, the compute and the latency. How the channels are chosen: channel_pruning.py.
"""

from dataclasses import replace

from learn2compress.compression.pruning.channel_pruning import ChannelPlan, plan_channels, remove_channels
from learn2compress.compression.pruning.channel_targets import check_reachable, describe_widths
from learn2compress.compression.pruning.passes.base import Context, Pass, Work
from learn2compress.compression.pruning.passes.fine_tuning import fine_tune
from learn2compress.schemas.config import ChannelPassConfig
from learn2compress.schemas.manifests import Sensitivity
from learn2compress.schemas.progress import say


class ChannelPass(Pass[ChannelPassConfig]):
    """Removes channels, and lets the rest recover; students of a user's own architecture keep theirs."""

    name = "channels"
    parameters_type = ChannelPassConfig

    def check(self, work: Work) -> None:
        """Refuses a target that no widths meet.

        Raises:
            FamilyError: It names the smallest target within reach.
        """
        if self.parameters.channels and work.spec:
            check_reachable(work.spec, self.parameters.channels)

    def run(self, work: Work, context: Context) -> Work:
        """Removes channels from a family of the built-in shape, if there is a target."""
        config, spec = self.parameters, work.spec
        if config.channels is None:
            return work
        if spec is None:
            return work.with_note("no channels were removed: the students' shape is not ours to change")
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
