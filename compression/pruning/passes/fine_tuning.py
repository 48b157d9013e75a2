# SPDX-License-Identifier: Apache-2.0
"""Training a pruned family with the distillation's loss, so that it recovers."""

from learn2compress.compression.pruning.passes.base import Context, Work
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe


def fine_tune(work: Work, context: Context, recipe: Recipe, checkpoint: str) -> Work:
    """Trains the family on all devices; after an interruption, from its last epoch on.

    Args:
        work: The students; their weights are changed in place.
        context: Data and devices.
        recipe: `context.recipe` with epochs and learning rate replaced.
        checkpoint: Name of the file for the checkpoint, such as `my_pass.npz`; see `Context.file`.

    Returns:
        The students with the weights of the best epoch on the validation images.
    """
    data, distribution = context.data_for(work), context.distribution
    model = distribution.replicate(work.family)
    trainer = JointTrainer(model, work.names, recipe, distribution=distribution)
    curves = trainer.train(data.epoch, data.validation(), context.file(checkpoint))
    distribution.gather(model, work.family)
    return work.after_training(curves)
