# SPDX-License-Identifier: Apache-2.0
"""The section `quantize`."""

import math
from typing import Literal

from pydantic import Field

from learn2compress.schemas.config.reading.former_names import FORMER_NAMES
from learn2compress.schemas.config.types import Fraction, NonNegativeInt, PositiveInt, Rate, Section

Variant = Literal["float32", "float16", "dynamic", "int8", "uint8"]
TeacherVariant = Literal["float32", "float16", "dynamic", "int8"]


class QuantizeConfig(Section):
    """Quantization-aware training, and the files that are written."""

    FORMER_NAMES = FORMER_NAMES["quantize"]

    epochs: NonNegativeInt = Field(
        4, description="epochs of quantization-aware training; 0: post-training quantization only"
    )
    steps: PositiveInt | None = Field(
        None, description="number of steps, from which the number of epochs is computed (default: by epochs)"
    )
    learning_rate: Rate = Field(5e-4, description="initial learning rate; cosine decay to zero")
    variants: list[Variant] = Field(
        ["float32", "int8"], description="files of each student: float32, float16, dynamic, int8, uint8", min_length=1
    )

    def epochs_of(self, steps: int) -> int:
        """Compute the number of epochs of a training from the steps of an epoch."""
        return self.epochs if self.steps is None or not self.epochs else max(1, math.ceil(self.steps / steps))

    calibration_images: PositiveInt = Field(256, description="number of training images for the ranges")
    mixed_precision: bool = Field(
        False,
        description="if int8 loses too much accuracy, write an additional mixed-precision file that keeps the layers "
        "with the largest quantization error in float",
    )
    mixed_precision_drop: Fraction = Field(
        0.005, description="largest accepted drop in validation accuracy from float32 to int8"
    )
    mixed_precision_layers: PositiveInt = Field(
        4, description="largest number of layers in float in a mixed-precision file"
    )
    teacher_variants: list[TeacherVariant] = Field(
        ["float16", "dynamic", "int8"],
        description="plain conversions of the teacher as baselines: float32, float16, dynamic, int8; []: none",
    )
