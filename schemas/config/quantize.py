# SPDX-License-Identifier: Apache-2.0
"""The section `quantize`."""

from typing import Literal

from pydantic import Field

from learn2compress.schemas.config.types import Fraction, NonNegativeInt, PositiveInt, Rate, Section

Variant = Literal["float32", "float16", "dynamic", "int8", "uint8"]
TeacherVariant = Literal["float32", "float16", "dynamic", "int8"]


class QuantizeConfig(Section):
    """Training for 8-bit arithmetic, and the files that come out."""

    epochs: NonNegativeInt = Field(4, description="of quantization-aware training; 0: quantize after training only")
    learning_rate: Rate = Field(5e-4, description="at the start; cosine decay to zero")
    variants: list[Variant] = Field(
        ["float32", "int8"], description="float32, float16, dynamic, int8, uint8", min_length=1
    )
    calibration_images: PositiveInt = Field(256, description="training images that set ranges")
    rescue: bool = Field(
        False, description="where int8 loses too much, write a further file with the layers that lose most in float"
    )
    rescue_drop: Fraction = Field(
        0.005, description="accuracy on the validation split that int8 may lose against float32 before it is rescued"
    )
    rescue_layers: PositiveInt = Field(4, description="layers of a rescued file that may be in float")
    teacher_variants: list[TeacherVariant] = Field(
        ["float16", "dynamic", "int8"],
        description="the teacher itself, plainly converted, to compare with: float32, float16, dynamic, int8; []: none",
    )
