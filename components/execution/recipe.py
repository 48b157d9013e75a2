# SPDX-License-Identifier: Apache-2.0
"""From configuration to recipe: the loss that Distiller begins with goes on in the nodes after it."""

from collections.abc import Sequence

from learn2compress.compression.training.joint_trainer import Recipe
from learn2compress.compression.training.losses import LossSettings
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.schemas.config import DistillConfig, PruneConfig, QuantizeConfig

_GOES_ON = (
    "strategy", "batch_size", "temperature", "soft_weight", "in_place_weight", "in_place_from", "label_smoothing",
    "student_weights",
)  # fmt: skip
# Length, speed and start of the distillation: parameters that do not concern the nodes after Distiller.
BEYOND_LOSS = tuple(f"distill_{field}" for field in DistillConfig.model_fields if field not in _GOES_ON)


def training_recipe(
    stage: str,
    pace: DistillConfig | PruneConfig | QuantizeConfig,
    distill: DistillConfig,
    names: Sequence[str],
    data: TrainingData,
) -> Recipe:
    """The recipe for `JointTrainer`.

    Args:
        stage: As the curves name it.
        pace: Whose epochs and learning rate count.
        distill: Whose loss counts.
        names: The students, in the order of the outputs.
        data: Whose epochs are trained on, and whose seed holds for what is random in the students as well.
    """
    return Recipe(
        stage=stage,
        epochs=pace.epochs,
        steps_per_epoch=data.steps,
        learning_rate=pace.learning_rate,
        loss=LossSettings(
            distill.temperature,
            distill.soft_weight,
            distill.in_place_weight,
            distill.label_smoothing,
            distill.in_place_from,
        ),
        student_weights=tuple(distill.student_weights.get(name, 1.0) for name in names),
        seed=data.seed,
        modality=data.task.modality,
    )
