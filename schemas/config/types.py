# SPDX-License-Identifier: Apache-2.0
"""What the sections are made of: the base class, and numbers with their bounds and units."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from learn2compress.schemas.units import parse_bytes, parse_count

Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of the configuration: immutable, refusing keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
