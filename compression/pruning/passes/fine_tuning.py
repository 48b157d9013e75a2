# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of a pruned family with the distillation loss."""

from learn2compress.compression.pruning.passes.base import Context, Work
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe


def fine_tune(work: Work, context: Context, recipe: Recipe, checkpoint: str) -> Work:
    """Trains the family on all devices; after an interruption, the training resumes after its last epoch.

    Args:
        work: Students, whose weights are changed in place.
        context: Data and devices.
        recipe: `context.recipe` with other epochs and learning rate.
        checkpoint: Name of the checkpoint file, such as `my_pass.npz`; see `Context.file`.

    Returns:
        The students with the weights of the best epoch on the validation images.
    """
    data, distribution = context.data_for(work), context.distribution
    model = distribution.replicate(work.family)
    trainer = JointTrainer(model, work.names, recipe, distribution=distribution)
    curves = trainer.train(data.epoch, data.validation(), context.file(checkpoint))
    distribution.gather(model, work.family)
    return work.after_training(curves)
