# SPDX-License-Identifier: Apache-2.0
"""Finds the columns of a table of texts: those that are configured, or else usual names."""

from collections.abc import Sequence
from dataclasses import dataclass

from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError

TEXT_NAMES = (
    *("text", "sentence", "review", "content", "message", "comment", "tweet", "document", "body", "utterance"),
    *("question", "query", "headline"),
)
_USUAL = {
    "text": TEXT_NAMES,
    "label": ("label", "class", "class_name", "category", "target", "sentiment", "topic", "intent", "labels"),
    "split": ("split", "subset", "partition", "set"),
    "group": ("group", "group_id"),
}


@dataclass(frozen=True)
class Columns:
    """Names of the columns; None for those that there are none of."""

    text: str
    label: str | None
    split: str | None
    group: str | None


def find_columns(names: Sequence[str], config: DataConfig, where: str, with_labels: bool = True) -> Columns:
    """Finds the columns.

    Args:
        names: Names of the columns of the table, or of the features of a record.
        config: Section `data`.
        where: Name of the table for error messages.
        with_labels: Whether there must be labels; otherwise only the text is looked for.

    Raises:
        DataError: A configured column is not there, or there is no text or label.
    """
    text = _find("text", config.text_column, names, where)
    label = _find("label", config.label_column, names, where) if with_labels else None
    for kind, found in (("text", text), ("label", label)):
        if found is None and (with_labels or kind == "text"):
            raise DataError(
                f"{where} must have a column of {kind}s; got the columns {_shown(names)}. Set data.{kind}_column to "
                "one of them, or name the columns in the first row."
            )
    assert text is not None
    if not with_labels:
        return Columns(text, None, None, None)
    split, group = (
        _find(kind, given, names, where)
        for kind, given in (("split", config.split_column), ("group", config.group_column))
    )
    return Columns(text, label, split, group)


def _find(kind: str, given: str | None, names: Sequence[str], where: str) -> str | None:
    if given is not None:
        if given not in names:
            raise DataError(
                f"data.{kind}_column must be a column of {where}; got {given!r}, where there is {_shown(names)}. "
                "Correct it."
            )
        return given
    plain = {name.strip().lower(): name for name in reversed(names)}
    return next((plain[usual] for usual in _USUAL[kind] if usual in plain), None)


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:8])
    return (shown or "none") + (f" and {len(names) - 8} more" if len(names) > 8 else "")
