# SPDX-License-Identifier: Apache-2.0
"""The section `select`."""

from typing import Literal

from pydantic import Field

from learn2compress.schemas.config.types import Bytes, Count, Fraction, Rate, Section


class SelectConfig(Section):
    """The limits, and what is best within them. Accuracies are those of the validation split."""

    max_size: Bytes | None = Field(None, description="of the file, such as 60KB")
    max_latency_ms: Rate | None = Field(None, description="median of an invocation, in milliseconds")
    max_macs: Count | None = Field(None, description="multiply-accumulates of an image, such as 2M")
    min_accuracy: Fraction | None = Field(None, description="top-1")
    max_accuracy_drop: Fraction | None = Field(None, description="below the teacher")
    objective: Literal["accuracy", "size", "latency", "knee"] = Field(
        "accuracy", description="what is best within the limits; knee: the best trade of accuracy for bytes"
    )
