# SPDX-License-Identifier: Apache-2.0
"""Encodes configuration sections as node parameters, one scalar for each field, so that the lineage is readable.

The field `epochs` of the section named `distill` becomes the parameter `distill_epochs`: an int, a float or a str. A
list or a mapping is written as YAML in one line (`[float32, int8]`); a field that is not set is left out, and so is one
of `Section.UNUSUAL` with its default.
"""

from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from learn2compress.schemas.config import Section
from learn2compress.schemas.config.reading.former_names import use_current_parameters
from learn2compress.schemas.config.reading.yaml_text import YamlTextError, read_yaml
from learn2compress.schemas.errors import ConfigError

S = TypeVar("S", bound=BaseModel)
Scalar = int | float | str


def scalar_types(**sections: type[BaseModel]) -> dict[str, type[Scalar]]:
    """Returns the types of the parameters of sections, by name prefixed with the keyword."""
    return {
        f"{name}_{field}": _scalar_type(info.annotation)
        for name, section in sections.items()
        for field, info in section.model_fields.items()
    }


def encode(**sections: BaseModel) -> dict[str, Scalar]:
    """Encodes sections as values of parameters, by name prefixed with the keyword."""
    return {
        f"{name}_{field}": _to_scalar(value, type(section).model_fields[field].annotation)
        for name, section in sections.items()
        for field, value in section.model_dump(mode="json", exclude_none=True).items()
        if not _is_usual(section, field)
    }


def _read(text: str, name: str) -> Any:
    try:
        return read_yaml(text)
    except YamlTextError as error:
        raise ConfigError(f"parameter {name} {error}. Take the record from its source again.") from error


def _is_usual(section: BaseModel, field: str) -> bool:
    if not isinstance(section, Section) or field not in section.UNUSUAL:
        return False
    return bool(getattr(section, field) == type(section).model_fields[field].default)


def decode(section: type[S], name: str, parameters: Mapping[str, Any]) -> S:
    """Decodes a section from the parameters of a node, with the same checks as for a file.

    Args:
        section: Class of the section.
        name: Name of the section, which is the prefix of its parameters.
        parameters: Parameters of the node, whose other ones are ignored. Those of earlier runs may have former names.

    Raises:
        ValidationError: A value is not valid.
        ConfigError: A text that must be YAML is not, or unfolds into more than a configuration may.
    """
    values, parameters = {}, use_current_parameters(parameters)
    for field, info in section.model_fields.items():
        value = parameters.get(f"{name}_{field}")
        if value is not None:
            is_text = _scalar_type(info.annotation) is str and isinstance(value, str)
            values[field] = (
                _read(value, f"{name}_{field}") if is_text and not _is_plain_text(info.annotation) else value
            )
    return section.model_validate(values)


def _scalar_type(annotation: Any) -> type[Scalar]:
    kinds = {kind for kind in _alternatives(annotation) if kind is not type(None)}
    if kinds <= {int, bool}:
        return int
    return float if kinds <= {int, float} else str


def _is_plain_text(annotation: Any) -> bool:
    return {kind for kind in _alternatives(annotation) if kind is not type(None)} == {str}


def _alternatives(annotation: Any) -> list[Any]:
    """Lists the Python types of a field's values, resolving `Annotated` and `Literal`."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    if hasattr(annotation, "__metadata__"):
        return _alternatives(annotation.__origin__)
    if str(origin) == "typing.Literal":
        return [type(value) for value in get_args(annotation)]
    return [origin or annotation]


def _to_scalar(value: Any, annotation: Any) -> Scalar:
    kind = _scalar_type(annotation)
    if kind is not str:
        return kind(value)
    if isinstance(value, str) and _is_plain_text(annotation):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n...\n").strip()
