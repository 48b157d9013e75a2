# SPDX-License-Identifier: Apache-2.0
"""Makes the training recipe of a node from its configuration; Distiller, Pruner and Quantizer use the same loss."""

from learn2compress.compression.training.joint_trainer import Recipe
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.schemas.config import DistillConfig, LossConfig, PruneConfig, QuantizeConfig


def training_recipe(
    stage: str, pace: DistillConfig | PruneConfig | QuantizeConfig, loss: LossConfig, data: TrainingData
) -> Recipe:
    """Makes the recipe for `JointTrainer`.

    Args:
        stage: Name of the stage in the curves.
        pace: Section with the epochs and the learning rate.
        loss: Section with the loss of each student.
        data: Training batches; their seed is also the seed of random layers in the students.
    """
    return Recipe(
        stage=stage,
        epochs=pace.epochs if isinstance(pace, PruneConfig) else pace.epochs_of(data.steps),
        steps_per_epoch=data.steps,
        learning_rate=pace.learning_rate,
        loss=LossConfig.part_of(loss),
        seed=data.seed,
        modality=data.task.modality,
        parts=data.parts,
    )
