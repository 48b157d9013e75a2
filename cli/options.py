# SPDX-License-Identifier: Apache-2.0
"""Validates command-line options like the corresponding fields of the configuration, with the same messages."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from learn2compress.schemas.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def checked(kind: type[M], options: dict[str, Any]) -> M:
    """Build a section of the configuration from options; an option that is None takes the field's default.

    Args:
        kind: Class of the section.
        options: Values by field name.

    Raises:
        ConfigError: An option is invalid; the message names the first one.
    """
    try:
        return kind.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + ".".join(map(str, first["loc"])).replace("_", "-")
        if first["type"] == "value_error":
            raise ConfigError(f"{option}: {str(first['ctx']['error']).rstrip('.')}.") from error
        rule = first["msg"][0].lower() + first["msg"][1:]
        raise ConfigError(f"{option} is wrong: {rule}; got {first['input']!r}.") from error
