# SPDX-License-Identifier: Apache-2.0
"""Validates arguments like the corresponding fields of the configuration, with the same messages.

A message names an argument as it was given: `max_size` in Python, `--max-size` on the command line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from learn2compress.schemas.errors import ConfigError

if TYPE_CHECKING:  # a command line that only prints help does without it
    from pydantic import BaseModel

M = TypeVar("M", bound="BaseModel")

_on_command_line: ContextVar[bool] = ContextVar("on_command_line", default=False)


@contextmanager
def named_as_options() -> Iterator[None]:
    """Name arguments in messages like options of the command line while the context lasts."""
    token = _on_command_line.set(True)
    try:
        yield
    finally:
        _on_command_line.reset(token)


def is_command_line() -> bool:
    """Tell whether arguments are named like options of the command line."""
    return _on_command_line.get()


def name_of(argument: str) -> str:
    """Write the name of an argument for a message, such as `max_size` or `--max-size`."""
    return "--" + argument.replace("_", "-") if is_command_line() else argument


def checked(kind: type[M], options: dict[str, Any]) -> M:
    """Build a section of the configuration from arguments; an argument that is None takes the field's default.

    Args:
        kind: Class of the section.
        options: Values by field name.

    Raises:
        ConfigError: An argument is invalid; the message names the first one.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = name_of(".".join(map(str, first["loc"])))
        if first["type"] == "value_error":
            raise ConfigError(f"{option}: {str(first['ctx']['error']).rstrip('.')}.") from error
        rule = first["msg"][0].lower() + first["msg"][1:]
        raise ConfigError(f"{option} is wrong: {rule}; got {first['input']!r}.") from error
