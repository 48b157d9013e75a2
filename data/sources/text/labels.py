# SPDX-License-Identifier: Apache-2.0
"""Determines the classes of texts from their labels, which may be names or numbers."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from learn2compress.data.raw_examples import Part, check_first_label, check_most_classes, order_classes
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError

_NUMBER = re.compile(r"\d+(\.0+)?")


@dataclass(frozen=True)
class Classes:
    """Classes of texts.

    Attributes:
        names: Names in label order.
        indices: Index of each label as the data write it.
        named: Whether the names are names, and no numbers that stand in for them.
    """

    names: tuple[str, ...]
    indices: dict[str, int]
    named: bool


def find_classes(
    seen: dict[Part, set[str]], config: DataConfig, where: str, stated: Collection[str] | None = None
) -> Classes:
    """Determines the classes.

    Args:
        seen: Labels of each part, as the data write them.
        config: Section `data`.
        where: Name of the data for error messages.
        stated: Names of numbered classes that the file itself states, or None.

    Raises:
        DataError: The classes of the parts differ, or the labels do not suit `data.classes`.
    """
    main = seen.get("train", seen.get(None, set()))
    wanted = config.classes or (list(stated) if stated else None)
    every = set().union(*seen.values())
    numbers = {label: int(float(label)) for label in every if _NUMBER.fullmatch(label)}
    if len(numbers) == len(every) and every:
        if wanted is None or not all(_NUMBER.fullmatch(name) for name in wanted):
            return _numbered(numbers, wanted, config, where)
    else:
        # The label 1 beside names is a name as well.
        for part, labels in seen.items():
            strange = sorted(labels - main)
            if strange and wanted is None:
                raise DataError(
                    f"the classes of the {part} texts of {where} must be among those of the train texts; got "
                    f"{strange[0]!r}. Add training texts of it, or name all classes in data.classes."
                )
    names = order_classes(sorted(every if wanted else main), wanted, where)
    return Classes(names, {name: index for index, name in enumerate(names)}, True)


def _numbered(numbers: dict[str, int], wanted: list[str] | None, config: DataConfig, where: str) -> Classes:
    first = check_first_label(min(numbers.values()), config, where)
    highest = max(numbers.values())
    check_most_classes(highest, where)
    if wanted is not None and highest - first >= len(wanted):
        raise DataError(
            f"data.classes must name the {highest - first + 1} numbered classes of {where}; got {len(wanted)} names. "
            "Name each class, or set data.label_offset."
        )
    found = wanted or [str(label) for label in range(first, highest + 1)]
    names = order_classes(found, None, where)
    return Classes(names, {label: number - first for label, number in numbers.items()}, wanted is not None)
