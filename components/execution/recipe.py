# SPDX-License-Identifier: Apache-2.0
"""From configuration to recipe: the loss that Distiller begins with goes on in the nodes after it."""

from learn2compress.compression.training.joint_trainer import Recipe
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.schemas.config import DistillConfig, LossConfig, PruneConfig, QuantizeConfig


def training_recipe(
    stage: str, pace: DistillConfig | PruneConfig | QuantizeConfig, loss: LossConfig, data: TrainingData
) -> Recipe:
    """Makes the recipe for `JointTrainer`.

    Args:
        stage: Name of the stage in the curves.
        pace: Section whose epochs and learning rate count.
        loss: Loss of each student, or a section that has one.
        data: Batches that are trained on; their seed holds for what is random in the students as well.
    """
    return Recipe(
        stage=stage,
        epochs=pace.epochs,
        steps_per_epoch=data.steps,
        learning_rate=pace.learning_rate,
        loss=LossConfig.part_of(loss),
        seed=data.seed,
        modality=data.task.modality,
    )
