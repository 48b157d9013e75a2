# SPDX-License-Identifier: Apache-2.0
"""The section `students`."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, create_model, model_validator

from learn2compress.schemas.config.types import Bytes, Count, Fraction, PositiveInt, Rate, Section

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


class StudentSize(Section):
    """Size of a student, by limits of its costs, or by the place where it leaves the teacher's network."""

    ORDER: ClassVar[tuple[str, ...]] = ("multiplier", "size_bytes", "macs", "latency_ms", "exit")

    multiplier: Rate | None = Field(None, description="multiple of the size of the default large student")
    size_bytes: Bytes | None = Field(None, description="largest size of its int8 .tflite")
    macs: Count | None = Field(None, description="largest number of multiply-accumulates for an image")
    latency_ms: Rate | None = Field(
        None,
        description="largest predicted latency of its int8 .tflite in milliseconds, one image and one thread, on this "
        "machine or on the device of latency_table",
    )

    exit: str | None = Field(
        None, description="students.from: teacher: name of the exit, as `learn2compress plan` lists them"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        if value is None:
            return {}
        return {"multiplier": value} if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _one_rule(self) -> "StudentSize":
        if self.multiplier is not None and self.size_bytes is not None:
            raise ValueError("only one of multiplier and size_bytes may be given")
        if self.exit is not None and self.limits:
            raise ValueError(f"only one of {self.limits[0]} and exit may be given")
        return self

    @property
    def limits(self) -> tuple[str, ...]:
        """Names of the limits that are set."""
        names = ("multiplier", "size_bytes", "macs", "latency_ms")
        return tuple(name for name in names if getattr(self, name) is not None)


Blocks = Literal["auto", "by_stage", "separable"]
Origin = Literal["built_in", "teacher", "auto"]

# `from` is a word of Python, so this field cannot be declared in the body of a class.
_ORIGIN_FIELD: dict[str, Any] = {
    "from": (
        Origin | None,
        Field(
            None,
            description="built_in: the built-in family; teacher: the teacher's own network, cut after one of its "
            "blocks, with its weights, for few images (docs/how-to/photos.md); auto: measured before the run (default: "
            "built_in)",
        ),
    )
}
_Origin = create_model("_Origin", __base__=Section, **_ORIGIN_FIELD)


class FamilyConfig(_Origin):
    """The sizes of the students, and what they are made of."""

    ORDER: ClassVar[tuple[str, ...]] = (
        "from", "sizes", "blocks", "input", "dictionary", "word_pairs", "prefix", "word_dropout",
    )  # fmt: skip

    input: PositiveInt | None = Field(
        None,
        description="from teacher: shorter side of the students' images in pixels, or auto: the smallest at which the "
        "teacher's features lose little (default: auto)",
    )
    sizes: dict[str, StudentSize] = Field(
        {"small": StudentSize(), "medium": StudentSize(), "large": StudentSize()},
        description="students by name: tiny, small, medium, large or xlarge alone, or any name with a multiplier, "
        "{size_bytes: 24KB}, {macs: 2M} or {latency_ms: 0.1}, or several limits at once",
        min_length=2,
        max_length=6,
    )
    blocks: Blocks | None = Field(
        None,
        description="kinds of block of the built-in family for images; by_stage: dense 3x3 convolutions where channels "
        "are few and pixels many, separable ones behind them; separable: separable ones only (default: auto)",
    )
    dictionary: Literal["words", "keys"] | None = Field(
        None,
        description="texts: what a file carries of its dictionary: words, a vocab.txt by which MediaPipe and the Task "
        "Library load it as it is, or keys, three bytes an entry, for more accuracy in the same bytes (default: words)",
    )
    word_pairs: bool | None = Field(
        None, description="texts: whether pairs of words are entries too, which needs dictionary: keys (default: false)"
    )
    prefix: Annotated[int, Field(ge=2, le=20)] | None = Field(
        None, description="texts: length of prefixes that are entries too, which needs dictionary: keys (default: none)"
    )
    word_dropout: Fraction | None = Field(
        None, description="texts: fraction of the words that are left out at random in training (default: 0.5)"
    )

    @model_validator(mode="after")
    def _features_need_keys(self) -> "FamilyConfig":
        if self.dictionary != "keys" and (self.word_pairs or self.prefix is not None):
            raise ValueError("word_pairs and prefix need dictionary: keys, since a vocabulary holds words only")
        return self

    @model_validator(mode="before")
    @classmethod
    def _automatic_input(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("input") == "auto":
            return {**values, "input": None}
        return values

    @property
    def origin(self) -> Origin:
        """What the students are made of, the field `from`."""
        return getattr(self, "from") or "built_in"


class StudentsConfig(FamilyConfig):
    """The family to train: two to six students, smallest first."""

    ORDER = (*FamilyConfig.ORDER, "latency_table", "module")

    latency_table: str | None = Field(
        None,
        description="file with measured operations of the device that latency_ms is for, as `learn2compress bench "
        "--operations` writes it for a machine or phone (default: this machine, measured once; "
        "docs/how-to/latency.md)",
    )

    module: str | None = Field(
        None,
        description="user-defined students instead: FILE.py:FUNCTION, see docs/how-to/own_students.md; sizes does not "
        "apply",
    )

    @model_validator(mode="after")
    def _names_of_files(self) -> "StudentsConfig":
        for name in self.sizes:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    "a student's name must be at most 40 letters, digits, underscores, hyphens and points, and begin "
                    f"with a letter or digit, since it becomes part of a file's name; got {name[:40]!r}"
                )
        return self

    @model_validator(mode="after")
    def _one_architecture(self) -> "StudentsConfig":
        if self.module is not None and self.origin != "built_in":
            raise ValueError(f"only one of from and module may be given; got from: {self.origin} and a module")
        if self.origin != "built_in":
            self._check_single_limits()
        if self.latency_table is not None and (self.module is not None or self.origin != "built_in"):
            raise ValueError(
                f"latency_table must be left out unless from is built_in, without a module; got {self.latency_table}"
            )
        exits = [name for name, size in self.sizes.items() if size.exit is not None]
        if exits and self.origin == "built_in":
            raise ValueError(f"sizes.{exits[0]}.exit must be left out unless from is teacher or auto")
        if self.input is not None and self.origin == "built_in":
            raise ValueError(
                f"input must be left out unless from is teacher or auto; got {self.input}. The built-in family takes "
                "images of data.height x data.width"
            )
        if self.module is not None and self.sizes != type(self).model_fields["sizes"].default:
            raise ValueError("only one of sizes and module may be given: a module determines the sizes of its students")
        return self

    def _check_single_limits(self) -> None:
        """Check that each student has a single limit, and none of its latency."""
        for name, size in self.sizes.items():
            if size.latency_ms is not None or len(size.limits) > 1:
                raise ValueError(
                    f"sizes.{name} must have one of multiplier, size_bytes, macs and exit unless from is built_in; got "
                    f"{', '.join(size.limits)}"
                )

    @property
    def limits_latency(self) -> bool:
        """Whether a student of the built-in family has a limit of its latency."""
        return self.module is None and any(size.latency_ms is not None for size in self.sizes.values())
