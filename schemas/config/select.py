# SPDX-License-Identifier: Apache-2.0
"""The section `select`."""

from typing import Literal

from pydantic import Field

from learn2compress.schemas.config.types import Bytes, Count, Fraction, Rate, Section


class SelectConfig(Section):
    """The limits and the objective of the choice. Accuracies are those of the validation split."""

    max_size: Bytes | None = Field(None, description="largest size of the file, such as 60KB")
    max_latency_ms: Rate | None = Field(None, description="largest median latency of an invocation, in milliseconds")
    max_macs: Count | None = Field(None, description="largest number of multiply-accumulates for an image, such as 2M")
    min_accuracy: Fraction | None = Field(None, description="smallest top-1 accuracy")
    max_accuracy_drop: Fraction | None = Field(None, description="largest drop in accuracy from the teacher")
    objective: Literal["accuracy", "accuracy_strict", "size", "latency", "knee"] = Field(
        "accuracy",
        description="what is optimized within the limits; accuracy: the smallest file whose accuracy is within one "
        "standard error of the best; accuracy_strict: the best accuracy; knee: the best trade-off of accuracy and size",
    )
