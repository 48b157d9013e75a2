# SPDX-License-Identifier: Apache-2.0
"""The section `distill`, and its parts that the nodes after the Distiller use as well."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from learn2compress.schemas.config.types import Fraction, PositiveInt, Rate, Section

FEATURE_STEPS = 300
"""Least number of steps of learning the teacher's features, unless the user sets a number of epochs."""
AUTO_STEPS = 400
"""Steps of a training whose number of epochs is auto."""


class LossConfig(Section):
    """The loss of each student and its weight; see compression/training/losses.py for the formula."""

    temperature: Rate = Field(4.0, description="temperature of the softmax of teacher and student logits (1503.02531)")
    soft_weight: Fraction = Field(0.9, description="weight of the teacher's logits, as opposed to the labels")
    in_place_weight: Fraction = Field(
        0.0, description="weight of larger students' logits as a teacher of the smaller students (1903.05134)"
    )
    in_place_from: Literal["largest", "larger"] = Field(
        "largest",
        description="the students that teach in this way: the largest one, or all larger ones with equal weights",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="fraction of a label's weight that is distributed over all classes (1512.00567)"
    )
    student_weights: dict[str, Rate] = Field({}, description="weight of a student's loss, by name (default 1)")


class TrainingConfig(LossConfig):
    """The settings of all nodes that train students: loss, batches and devices."""

    UNUSUAL: ClassVar[frozenset[str]] = frozenset({"precision"})

    batch_size: PositiveInt = Field(128, description="images in a step, over all workers")
    strategy: Literal["none", "mirrored", "multi_worker"] = Field(
        "none",
        description="devices of Distiller, Pruner and Quantizer: none: one device, mirrored: all devices of this "
        "machine, multi_worker: the workers that TF_CONFIG names, see docs/how-to/distribution.md",
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="arithmetic of Distiller and Pruner; bfloat16: layers compute in bfloat16, weights and logits stay "
        "in float32, auto: bfloat16 if all accelerators have arithmetic for it. The training for 8 bits is in float32",
    )


class DistillConfig(TrainingConfig):
    """Joint training of the family from the teacher's logits."""

    ORDER: ClassVar[tuple[str, ...]] = (
        "epochs", "steps", "batch_size", "learning_rate", "inherited_rate", "warmup_epochs", "weight_decay",
        *LossConfig.model_fields, "ema_decay", "patience", "init", "init_epochs", "init_steps", "unlabeled", "strategy",
        "precision",
    )  # fmt: skip

    epochs: PositiveInt = Field(
        30,
        description="number of epochs; an epoch has one view of each training image. auto: as many as give the default "
        "number of steps, whatever the number of images",
    )
    steps: PositiveInt | None = Field(
        None, description="number of steps, from which the number of epochs is computed (default: by epochs)"
    )
    learning_rate: Rate = Field(2e-2, description="peak learning rate, after the warm-up; cosine decay to zero")
    inherited_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="learning rate of weights that students have from the teacher, as a multiple of learning_rate "
        "(default: the same rate)",
    )
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(
        1.0, description="epochs in which the learning rate rises from zero"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="decoupled (AdamW, 1711.05101)")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.99, description="decay of the moving average of the weights; 0: no average"
    )
    patience: PositiveInt | None = Field(
        None, description="epochs without a better validation accuracy before stopping"
    )
    init: str = Field(
        "none",
        description="initialization of the students, for scarce data: none (random), features (they first learn to "
        "predict the teacher's features, also on data.unlabeled), or the output folder of an earlier run with the "
        "same sizes",
    )

    @model_validator(mode="before")
    @classmethod
    def _automatic_epochs(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("init") == "features" and not {"init_epochs", "init_steps"} & set(values):
            values = {**values, "init_steps": FEATURE_STEPS}
        if values.get("epochs") != "auto":
            return values
        return {"steps": AUTO_STEPS} | {key: value for key, value in values.items() if key != "epochs"}

    def init_epochs_of(self, steps: int) -> int:
        """Compute the number of epochs of learning the teacher's features from the steps of an epoch."""
        return max(self.init_epochs, math.ceil((self.init_steps or 0) / steps))

    def epochs_of(self, steps: int) -> int:
        """Compute the number of epochs of a training.

        Args:
            steps: Steps of an epoch.
        """
        return self.epochs if self.steps is None else max(1, math.ceil(self.steps / steps))

    init_steps: PositiveInt | None = Field(
        None,
        description="least number of steps of learning the teacher's features; epochs are added to reach it (default: "
        "300 if init_epochs is not set)",
    )
    init_epochs: PositiveInt = Field(10, description="epochs of learning the teacher's features, if init is features")
    unlabeled: Literal["logits", "features", "both"] | None = Field(
        None,
        description="what the students learn of the teacher on data.unlabeled: logits, features (with init: features) "
        "or both (default: features if init is features, otherwise logits)",
    )
