# SPDX-License-Identifier: Apache-2.0
"""The section `prune`: the passes in order, and the parameters of the built-in passes.

The section inherits the parameters of the built-in passes, one part for each pass. A user-defined pass declares its own
parameters (compression/pruning/passes/base.py), which are given beside its name.
"""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_serializer, model_validator

from learn2compress.schemas.config.types import NonNegativeInt, PositiveInt, Rate, Section
from learn2compress.schemas.units import parse_bytes, parse_count


def _share_or(parse: Any) -> BeforeValidator:
    """Reads 0.5 or 50% as a fraction, all other values with `parse`."""

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
            raise ValueError(f"a fraction must be above 0 and below 1; got {value}. Write for example 0.5 or 50%")
        return share

    return BeforeValidator(read)


class StudentChannelTarget(Section):
    """Target of channel pruning for one student; if several are given, all of them must be met."""

    fraction: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="fraction of its channels to remove, such as 0.3"
    )
    bytes: Annotated[float | int, _share_or(parse_bytes)] | None = Field(
        None, description="largest size of its int8 .tflite, such as 50KB, or fraction of its present size, such as 50%"
    )
    macs: Annotated[float | int, _share_or(parse_count)] | None = Field(
        None,
        description="largest number of multiply-accumulates, such as 5M, or fraction of its present number, such as "
        "50%",
    )

    @property
    def is_set(self) -> bool:
        """Whether there is a target."""
        return any(value is not None for value in (self.fraction, self.bytes, self.macs))


class ChannelTarget(StudentChannelTarget):
    """Target of channel pruning for the largest student; smaller ones lose the same share, or have their own target."""

    students: dict[str, StudentChannelTarget] | None = Field(
        None, description="targets of students by name, in place of the share of the largest one"
    )

    @model_validator(mode="after")
    def _some_rule(self) -> "ChannelTarget":
        own = self.students or {}
        if not self.is_set and not any(target.is_set for target in own.values()):
            raise ValueError("fraction, bytes or macs must be given; got none of them. Write {bytes: 50%}")
        return self


BUILT_IN_PASSES = ("channels", "magnitude")
"""Names of the passes whose parameters are fields of the section, in the default order."""


class PassChoice(Section):
    """A pass by name, with its parameters if it is user-defined."""

    name: str = Field(min_length=1, description="name of a built-in pass, or of an installed package's entry point")
    parameters: dict[str, Any] = Field({}, description="parameters of a user-defined pass, by name")

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
    """The pruning passes in order."""

    passes: Annotated[list[PassChoice], BeforeValidator(_listed)] = Field(
        [PassChoice(name=name) for name in BUILT_IN_PASSES],
        description="pruning passes in order; []: none. A user-defined pass of an installed package is written as "
        "{name: my_pass, parameters: {step: 0.1}}, see docs/explanation/pruning.md",
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
    """Measurement of sensitivity, by both built-in passes."""

    sensitivity_images: NonNegativeInt = Field(
        256,
        description="validation images for measuring the sensitivity of each layer, by which zeros and removed "
        "channels are allocated; 0: not measured, uniform sparsity",
    )


class ChannelPassConfig(SensitivityConfig):
    """Parameters of the pass `channels`, which removes whole channels."""

    channels: ChannelTarget | None = Field(
        None,
        description="target to which channels of the largest student are removed: {bytes: 50%} or {bytes: 50KB} of "
        "its int8 file, {macs: 50%} or {macs: 5M}, both {bytes: 50%, macs: 60%}, or {fraction: 0.3} of its channels "
        "removed; smaller students are reduced by the same fraction (default: no channel pruning)",
    )
    criterion: Literal["taylor", "magnitude"] = Field(
        "taylor",
        description="importance of channels: taylor, by the estimated change of the loss (1906.10771), or magnitude, "
        "by their weights",
    )
    channel_epochs: PositiveInt = Field(10, description="epochs of fine-tuning after the removal of channels")
    channel_learning_rate: Rate = Field(
        2e-3, description="initial learning rate of this fine-tuning; cosine decay to zero"
    )


class MagnitudePassConfig(SensitivityConfig):
    """Parameters of the pass `magnitude`, which sets the smallest weights to zero."""

    sparsity: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5,
        description="fraction of zeros in the pruned kernels (magnitude pruning); 0: none. Biases, batch "
        "normalization, depthwise kernels and the first convolution stay dense",
    )
    block: Literal["1x1", "1x4"] = Field(
        "1x1", description="single zeros (1x1) or blocks of four along the output channels (1x4)"
    )
    epochs: PositiveInt = Field(6, description="epochs of training while the sparsity increases (1710.01878)")
    learning_rate: Rate = Field(1e-3, description="initial learning rate; cosine decay to zero")


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
