# SPDX-License-Identifier: Apache-2.0
"""Reads YAML within limits: for any text, the result is plain values or a single type of error.

Dates are read as text, since no field is a date. Aliases are refused, since a few lines of them can expand to
gigabytes.
"""

from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
_MAX_REASON = 160


class YamlTextError(ValueError):
    """The text is not YAML, or exceeds the limits of a configuration."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with a limited depth, without aliases and without dates."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise YamlTextError(f"must be written out without aliases; line {mark.line + 1} has one")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise YamlTextError(f"must be nested at most {MAX_DEPTH} levels deep; it is nested deeper")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str) -> Any:
    """Reads one YAML document.

    Args:
        text: At most `MAX_BYTES` characters, nested at most `MAX_DEPTH` levels deep.

    Returns:
        Plain values: mappings, lists, strings, numbers, booleans, None.

    Raises:
        YamlTextError: The text is not such a document. The message continues a sentence: `must be …; got …`.
    """
    if len(text) > MAX_BYTES:
        raise YamlTextError(f"must have at most {MAX_BYTES:,} characters; it has more")
    try:
        return yaml.load(text, Loader=_Loader)
    except YamlTextError:
        raise
    except yaml.YAMLError as error:
        raise YamlTextError(f"must be YAML; {shorten(' '.join(str(error).split()), _MAX_REASON)}") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        # PyYAML converts scalars by int(), float(), a mapping and a regular expression, whose errors it does not catch.
        reason = shorten(" ".join(str(error).split()), _MAX_REASON)
        raise YamlTextError(
            f"must be YAML with values that suit their tags; a value cannot be read ({reason})"
        ) from error


def shorten(text: str, length: int) -> str:
    """Cuts a text to at most `length` characters, the last of which is then an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"
