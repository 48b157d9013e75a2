# SPDX-License-Identifier: Apache-2.0
"""Writes a commented configuration from the definitions of the fields, so that it is always up to date."""

from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from learn2compress.schemas.config.config import section_types


def describe_config(paths: dict[str, str]) -> str:
    """Write the whole configuration as YAML with a description of each field; defaults are commented out.

    Args:
        paths: Values of `path` in the sections teacher and data, by section.

    Returns:
        YAML.
    """
    lines = ["# Learn2Compress. Fields that are commented out show their defaults."]
    for name, section in section_types().items():
        lines += ["", f"# {' '.join((section.__doc__ or '').split())}"]
        lines.append(f"{name}:")
        for key, info in section.ordered_fields():
            lines += _describe_field(key, info, paths.get(name))
    return "\n".join(lines) + "\n"


def _describe_field(key: str, info: Any, path: str | None) -> list[str]:
    lines = [f"  # {info.description}"] if info.description else []
    if key == "path" and path is not None:
        return [*lines, f"  path: {_to_yaml(path)}"]
    default = info.default if info.default is not PydanticUndefined else None
    return [*lines, f"  # {key}: {_to_yaml(default)}"]


def _to_yaml(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, list):
        value = [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in value]
    if isinstance(value, dict):
        value = {k: v.model_dump(exclude_none=True) if isinstance(v, BaseModel) else v for k, v in value.items()}
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").strip()
