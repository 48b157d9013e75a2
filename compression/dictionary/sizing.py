# SPDX-License-Identifier: Apache-2.0
"""Solves for the rows of nested dictionaries that fit the requested sizes.

Multiply-accumulates are negligible, so only bytes are solved for. Columns are fixed first: a sum of words is a linear
classifier, whose logits for C classes have C - 1 degrees of freedom, so that more columns tell nothing; of many classes
the table is a factorization of lower rank. The rest of the budget are rows, whose bytes in the carried dictionary are
known exactly once the entries are ordered, and are estimated before.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from learn2compress.compression.dictionary.spec import DictionarySpec, DictionaryStudent, file_bytes
from learn2compress.modalities.text.lookup.dictionary import Carrier, Dictionary
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.units import format_bytes

NAMED_BYTES = {"tiny": 10_000, "small": 20_000, "medium": 50_000, "large": 100_000, "xlarge": 200_000}
WORD_BYTES = {"words": 16, "keys": 3}
"""Estimated bytes of an entry in the carried dictionary: a word with its forms and ids, or a key."""
LEAST_ROWS = 16
MOST_COLUMNS = 8


def columns_for(classes: int) -> int:
    """Return the number of columns for a number of classes: at most one less than there are classes."""
    return max(1, min(classes - 1, MOST_COLUMNS))


def requested_bytes(sizes: Mapping[str, StudentSize]) -> dict[str, int]:
    """Convert the requested sizes to bytes, smallest first.

    Args:
        sizes: Size by name of the student.

    Raises:
        FamilyError: A size is in MACs or unknown, or there are fewer than two students.
    """
    if len(sizes) < 2:
        raise FamilyError(f"students.sizes must name at least two students; got {len(sizes)}. Add a second size.")
    found = {}
    for name, size in sizes.items():
        if size.macs is not None or size.latency_ms is not None:
            raise FamilyError(
                f"size of student {name!r} must be in bytes, since a dictionary computes next to nothing; got "
                f"{'MACs' if size.macs is not None else 'milliseconds'}. "
                f"Write {name}: {{size_bytes: 24KB}}."
            )
        if size.size_bytes is not None:
            found[name] = size.size_bytes
        elif size.multiplier is not None:
            found[name] = int(size.multiplier * NAMED_BYTES["large"])
        elif name in NAMED_BYTES:
            found[name] = NAMED_BYTES[name]
        else:
            raise FamilyError(
                f"student {name!r} must be one of {', '.join(NAMED_BYTES)} or have a size; got only a name. "
                f"Write {name}: {{size_bytes: 24KB}}."
            )
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def solve_dictionaries(
    sizes: Mapping[str, StudentSize],
    length: int,
    classes: int,
    labels: int,
    carrier: Carrier,
    dictionary: Dictionary | None = None,
) -> DictionarySpec:
    """Find the rows of each student.

    Args:
        sizes: Size by name of the student.
        length: Number of ids of a text.
        classes: Number of classes, at least two.
        labels: Bytes of the class names.
        carrier: Carrier of the dictionary.
        dictionary: Entries in their order; None if they are not known yet, and their bytes are estimated.

    Returns:
        A family whose students stay within their budgets. If there are fewer entries than a budget has room for, the
        student takes all.

    Raises:
        FamilyError: A budget is below the smallest dictionary, there are too few entries for students of different
            sizes, or there are fewer than two classes.
    """
    if classes < 2:
        raise FamilyError(
            f"a classifier must have at least two classes; got {classes}. Add a second class to the data."
        )
    budgets, columns = requested_bytes(sizes), columns_for(classes)
    if dictionary is None:
        carried = 40 + WORD_BYTES[carrier] * np.arange(max(budgets.values()) // WORD_BYTES[carrier] + 1)
    else:
        carried = dictionary.cumulative_bytes()
    rows = np.arange(len(carried))
    whole = np.array([file_bytes(carrier, int(row), columns, classes) for row in rows]) + carried + labels
    students: list[DictionaryStudent] = []
    for name, budget in budgets.items():
        fits = int(np.searchsorted(whole, budget, side="right")) - 1
        least = min(LEAST_ROWS, len(rows) - 1)
        if fits < least:
            raise FamilyError(
                f"student {name!r} must have at least {int(whole[least]):,} B, those of a dictionary of {least} "
                f"entries; got {budget:,} B. Raise its budget or leave it out."
            )
        if students and fits <= students[-1].rows:
            other = students[-1]
            raise FamilyError(
                f"student {name!r} must be larger than {other.name!r}; both take {other.rows:,} of {len(rows) - 1:,} "
                f"entries, in {format_bytes(int(whole[fits]))}. Leave it out, or reduce the size of {other.name}."
            )
        students.append(DictionaryStudent(name, fits, columns, int(carried[fits])))
    return DictionarySpec(length, classes, tuple(students), labels, carrier)


def with_rows(spec: DictionarySpec, rows: Mapping[str, int], dictionary: Dictionary) -> DictionarySpec:
    """Return the family with other numbers of rows.

    Args:
        spec: The family.
        rows: Rows by student.
        dictionary: The dictionary that the rows are the first entries of.
    """
    carried = dictionary.cumulative_bytes()
    students = tuple(
        replace(student, rows=rows[student.name], carried=int(carried[rows[student.name]])) for student in spec.students
    )
    return replace(spec, students=students)


def describe_dictionaries(spec: DictionarySpec) -> str:
    """Format a table of the students, to be printed before training."""
    lines = [("student", "words", "columns", "int8 file, about")]
    for student in spec.students:
        size = format_bytes(spec.cost(student).predicted_bytes)
        lines.append((student.name, f"{student.rows:,}", str(student.columns), size))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
