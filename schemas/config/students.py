# SPDX-License-Identifier: Apache-2.0
"""The section `students`."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, create_model, model_validator

from learn2compress.schemas.config.types import Bytes, Count, Fraction, PositiveInt, Rate, Section

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


class StudentSize(Section):
    """Size of a student, by one of three measures, or by the place where it leaves the teacher's network."""

    multiplier: Rate | None = Field(None, description="multiple of the size of the default large student")
    size_bytes: Bytes | None = Field(None, description="largest size of its int8 .tflite")
    macs: Count | None = Field(None, description="largest number of multiply-accumulates for an image")

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
        if sum(v is not None for v in (self.multiplier, self.size_bytes, self.macs, self.exit)) > 1:
            raise ValueError("only one of multiplier, size_bytes, macs and exit may be given")
        return self


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
        "{size_bytes: 24KB} or {macs: 2M}",
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

    ORDER = (*FamilyConfig.ORDER, "module")

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
