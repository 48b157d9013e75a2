# SPDX-License-Identifier: Apache-2.0
"""The section `distill`, and the parts of it that the nodes after Distiller take as well."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from learn2compress.schemas.config.types import Fraction, PositiveInt, Rate, Section


class LossConfig(Section):
    """The loss of each student and its weight; see compression/training/losses.py for the formula."""

    temperature: Rate = Field(4.0, description="softens teacher and student logits (1503.02531)")
    soft_weight: Fraction = Field(0.9, description="weight of the teacher's logits against the labels")
    in_place_weight: Fraction = Field(
        0.0, description="weight of larger students' logits as a teacher of the smaller ones (1903.05134)"
    )
    in_place_from: Literal["largest", "larger"] = Field(
        "largest", description="which those are: the largest student alone, or all that are larger, each as much"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of a label's weight that is spread over all classes (1512.00567)"
    )
    student_weights: dict[str, Rate] = Field({}, description="weight of a student's loss, by name (default 1)")


class TrainingConfig(LossConfig):
    """What all nodes that train students have in common: the loss, the batches and the devices."""

    batch_size: PositiveInt = Field(128, description="images a step, of all workers together")
    strategy: Literal["none", "mirrored", "multi_worker"] = Field(
        "none",
        description="where Distiller, Pruner and Quantizer train: on one device, mirrored on all of this machine's, or "
        "with the workers that TF_CONFIG names, see docs/distribution.md",
    )


class DistillConfig(TrainingConfig):
    """Joint training of the family from the teacher's logits."""

    ORDER: ClassVar[tuple[str, ...]] = (
        "epochs", "batch_size", "learning_rate", "warmup_epochs", "weight_decay", *LossConfig.model_fields,
        "ema_decay", "patience", "init", "init_epochs", "strategy",
    )  # fmt: skip

    epochs: PositiveInt = Field(30, description="over the training images, a view of each")
    learning_rate: Rate = Field(2e-2, description="peak, after the warm-up; cosine decay to zero")
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(1.0, description="of a learning rate that rises from zero")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="decoupled (AdamW, 1711.05101)")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(0.99, description="of the weights' moving average; 0: none")
    patience: PositiveInt | None = Field(
        None, description="epochs without a better validation accuracy before stopping"
    )
    init: str = Field(
        "none",
        description="how the students are initialized, where data is scarce: none (at random), features (they first "
        "learn to predict the teacher's, on data.unlabeled too), or the output folder of an earlier run with the same "
        "sizes",
    )
    init_epochs: PositiveInt = Field(10, description="of learning the teacher's features, where init is features")
