# SPDX-License-Identifier: Apache-2.0
"""The section `prune`: which passes prune, in which order, and the parameters of the built-in ones.

The section inherits the parameters of the built-in passes, one part a pass. A pass of the user's own declares its
parameters itself (compression/pruning/passes/base.py), and they are written beside its name.
"""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_serializer, model_validator

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
    """How many channels the largest student loses; where several targets are given, all of them hold."""

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


BUILT_IN_PASSES = ("channels", "magnitude")
"""Names of the passes whose parameters are fields of the section, in the default order."""


class PassChoice(Section):
    """A pass by its name, with its parameters if it is one of the user's own."""

    name: str = Field(min_length=1, description="name of a built-in pass, or of an installed package's entry point")
    parameters: dict[str, Any] = Field({}, description="parameters of a pass of your own, by name")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, dict | cls):
            raise ValueError(
                f"a pass must be a name, or a name with parameters; got {value!r}. Write magnitude, or "
                "{name: my_pass, parameters: {step: 0.1}}"
            )
        return value

    @model_validator(mode="after")
    def _parameters_in_one_place(self) -> "PassChoice":
        if self.parameters and self.name in BUILT_IN_PASSES:
            raise ValueError(
                f"parameters must be left out for the built-in pass {self.name}; got {', '.join(self.parameters)}. Set "
                f"the fields of prune, as prune.{'criterion' if self.name == 'channels' else 'sparsity'}"
            )
        return self

    @model_serializer
    def _as_written(self) -> Any:
        return {"name": self.name, "parameters": self.parameters} if self.parameters else self.name


def _listed(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of passes in their order; got {value!r}. Write [channels, magnitude]")
    return value


class PassOrderConfig(Section):
    """Which passes prune, and in which order."""

    passes: Annotated[list[PassChoice], BeforeValidator(_listed)] = Field(
        [PassChoice(name=name) for name in BUILT_IN_PASSES],
        description="what prunes, in this order; []: nothing. A pass of your own, from a package that is installed, is "
        "{name: my_pass, parameters: {step: 0.1}}, see docs/pruning.md",
    )

    @field_validator("passes")
    @classmethod
    def _each_once(cls, passes: list[PassChoice]) -> list[PassChoice]:
        name, count = Counter(choice.name for choice in passes).most_common(1)[0] if passes else ("", 0)
        if count > 1:
            raise ValueError(f"must name each pass once; got {name} {count} times. Leave the others out")
        return passes

    @property
    def pass_names(self) -> tuple[str, ...]:
        """Names of the passes in their order."""
        return tuple(choice.name for choice in self.passes)


class SensitivityConfig(Section):
    """How sensitivity is measured; both built-in passes measure it."""

    sensitivity_images: NonNegativeInt = Field(
        256,
        description="validation images by which each layer's sensitivity is measured, to spread zeros and removed "
        "channels over the layers; 0: not measured, zeros spread evenly",
    )


class ChannelPassConfig(SensitivityConfig):
    """Parameters of the pass `channels`, which removes whole channels."""

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


class MagnitudePassConfig(SensitivityConfig):
    """Parameters of the pass `magnitude`, which sets the smallest weights to zero."""

    sparsity: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5,
        description="share of zeros in the pruned kernels (magnitude pruning); 0: none. Biases, batch normalization, "
        "depthwise kernels and the first convolution stay dense",
    )
    block: Literal["1x1", "1x4"] = Field("1x1", description="zeros singly or in blocks")
    epochs: PositiveInt = Field(6, description="of fine-tuning while the sparsity rises (1710.01878)")
    learning_rate: Rate = Field(1e-3, description="at the start; cosine decay to zero")


class PruneConfig(MagnitudePassConfig, ChannelPassConfig, PassOrderConfig):
    """Pruning the students: fewer channels, and zeros in the kernels."""

    @model_validator(mode="after")
    def _target_has_its_pass(self) -> "PruneConfig":
        if self.channels is not None and "channels" not in self.pass_names:
            raise ValueError(
                f"channels must be left out unless passes names channels; got passes [{', '.join(self.pass_names)}]. "
                "Add channels to prune.passes"
            )
        return self
