# SPDX-License-Identifier: Apache-2.0
"""Writes a commented configuration from the definitions of the fields, so that it is always up to date."""

from collections.abc import Callable, Mapping
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from learn2compress.schemas.config.config import section_types

Values = Mapping[tuple[str, str], Any]
Comments = Callable[[str, str], list[str]]


def describe_config(values: Values, comments: Comments | None = None) -> str:
    """Write the whole configuration as YAML with a description of each field; defaults are commented out.

    Args:
        values: Values by section and field, in place of the defaults.
        comments: Returns further comments on a field of a section.

    Returns:
        YAML.
    """
    lines = ["# Learn2Compress. Fields that are commented out show their defaults."]
    for name, section in section_types().items():
        lines += ["", f"# {' '.join((section.__doc__ or '').split())}"]
        lines.append(f"{name}:")
        for key, info in section.ordered_fields():
            lines += [f"  # {text}" for text in (info.description, *(comments(name, key) if comments else ())) if text]
            lines.append(_write_field(name, key, info, values))
    return "\n".join(lines) + "\n"


def _write_field(section: str, key: str, info: Any, values: Values) -> str:
    if (section, key) in values:
        return f"  {key}: {_to_yaml(values[section, key])}"
    default = info.default if info.default is not PydanticUndefined else None
    return f"  # {key}: {_to_yaml(default)}"


def _to_yaml(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, list):
        value = [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in value]
    if isinstance(value, dict):
        value = {k: v.model_dump(exclude_none=True) if isinstance(v, BaseModel) else v for k, v in value.items()}
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").strip()
