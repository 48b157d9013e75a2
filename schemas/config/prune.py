# SPDX-License-Identifier: Apache-2.0
"""The section `prune`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from learn2compress.schemas.config.types import NonNegativeInt, PositiveInt, Rate, Section
from learn2compress.schemas.units import parse_bytes, parse_count


def _share_or(parse: Any) -> BeforeValidator:
    """Reads 0.5 or 50% as a share, everything else with `parse`."""

    def read(value: Any) -> Any:
        text = str(value).strip()
        number = text.removesuffix("%").strip()
        try:
            share = float(number) / (100 if text.endswith("%") else 1)
        except ValueError:
            return parse(value)
        if isinstance(value, bool) or (share >= 1 and not text.endswith("%")):
            return parse(value)
        if not 0 < share < 1:
            raise ValueError(f"a share must be above 0 and below 1; got {value}. Write for example 0.5 or 50%")
        return share

    return BeforeValidator(read)


class ChannelTarget(Section):
    """How much thinner the largest student shall be; where several are given, all of them hold."""

    fraction: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="so many of its channels go, as 0.3")
    bytes: Annotated[float | int, _share_or(parse_bytes)] | None = Field(
        None, description="its int8 .tflite has at most so many bytes, as 50KB, or such a share of them, as 0.5 or 50%"
    )
    macs: Annotated[float | int, _share_or(parse_count)] | None = Field(
        None, description="it has at most so many multiply-accumulates, as 5M, or such a share of them, as 0.5 or 50%"
    )

    @model_validator(mode="after")
    def _some_rule(self) -> "ChannelTarget":
        if self.fraction is None and self.bytes is None and self.macs is None:
            raise ValueError("fraction, bytes or macs must be given; got none of them. Write {bytes: 50%}")
        return self


class PruneConfig(Section):
    """Making the students thinner (fewer channels) and sparser (zeros in the kernels)."""

    channels: ChannelTarget | None = Field(
        None,
        description="remove whole channels until the largest student has {bytes: 50%} or {bytes: 50KB} as int8, "
        "{macs: 50%} or {macs: 5M}, both {bytes: 50%, macs: 60%}, or is without {fraction: 0.3} of its channels; the "
        "smaller ones lose the same share (default: none)",
    )
    criterion: Literal["taylor", "magnitude"] = Field(
        "taylor",
        description="which channels matter least: taylor, by how the loss would change (1906.10771), or magnitude, by "
        "their weights",
    )
    channel_epochs: PositiveInt = Field(10, description="of fine-tuning once the channels are gone")
    channel_learning_rate: Rate = Field(2e-3, description="of that, at the start; cosine decay to zero")
    sparsity: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5,
        description="share of zeros in the pruned kernels (magnitude pruning); 0: none. Biases, batch normalization, "
        "depthwise kernels and the first convolution stay dense",
    )
    block: Literal["1x1", "1x4"] = Field("1x1", description="zeros singly or in blocks")
    epochs: PositiveInt = Field(6, description="of fine-tuning while the sparsity rises (1710.01878)")
    learning_rate: Rate = Field(1e-3, description="at the start; cosine decay to zero")
    sensitivity_images: NonNegativeInt = Field(
        256,
        description="validation images by which each layer's sensitivity is measured, to spread zeros and removed "
        "channels over the layers; 0: not measured, zeros spread evenly",
    )
