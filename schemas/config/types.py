# SPDX-License-Identifier: Apache-2.0
"""The base class of the sections, and the types of numbers with bounds and units."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo
from typing_extensions import Self

from learn2compress.schemas.config.reading.former_names import use_current_keys
from learn2compress.schemas.units import parse_bytes, parse_count

Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """Base class of parts of the configuration: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ORDER: ClassVar[tuple[str, ...]] = ()
    """Fields in the order for the reader, if some are inherited; otherwise they are in the order of declaration."""
    UNUSUAL: ClassVar[frozenset[str]] = frozenset()
    """Fields that become parameters of a node only where they are not the default, which hardly anyone changes."""
    FORMER_NAMES: ClassVar[Mapping[str, str]] = {}
    """Present name of each former key, which is accepted as well."""

    @model_validator(mode="before")
    @classmethod
    def _use_current_keys(cls, values: Any) -> Any:
        return use_current_keys(values, cls.FORMER_NAMES) if isinstance(values, dict) else values

    @model_serializer(mode="wrap")
    def _write_in_order(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = write(self)
        return {name: values[name] for name in self.ORDER or values if name in values}

    @classmethod
    def part_of(cls, section: "Section") -> Self:
        """Creates this section from the fields of one that inherits from it or has the same fields."""
        values: dict[str, Any] = {name: getattr(section, name) for name in cls.model_fields}
        return cast(Self, cls.model_construct(section.model_fields_set & set(cls.model_fields), **values))

    @classmethod
    def ordered_fields(cls) -> Iterator[tuple[str, FieldInfo]]:
        """Yields the fields in the order of a configuration file."""
        for name in cls.ORDER or cls.model_fields:
            yield name, cls.model_fields[name]
