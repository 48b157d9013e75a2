# SPDX-License-Identifier: Apache-2.0
"""Rows and columns of nested dictionaries, and the cost of each student, computed without building a model.

A full-int8 file is almost only its table and its dictionary:

    bytes = FILE_BYTES + (rows + 1) · columns + classes · (columns + 4) + bytes of the dictionary and of the labels
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from learn2compress.compression.family.spec import Cost
from learn2compress.modalities.text.lookup.dictionary import Carrier
from learn2compress.schemas.errors import FamilyError

# Bytes of a full-int8 .tflite file besides table, kernel, dictionary and labels: flatbuffer, metadata and zip entries.
# A vocabulary comes with a tokenizer. uint8 files have one operator more, about 100 bytes, which are not included;
# tests/compression/dictionary/test_cutting.py compares emitted files.
FILE_BYTES: dict[Carrier, int] = {"words": 2050, "keys": 1980}
LOGIT_BYTES = 4  # the int32 bias of a class


@dataclass(frozen=True)
class DictionaryStudent:
    """The part of the table that a student takes.

    Attributes:
        name: Name of the student.
        rows: Number of its entries; row 0 comes in addition.
        columns: Number of its columns.
        carried: Bytes of the dictionary in its file.
    """

    name: str
    rows: int
    columns: int
    carried: int


@dataclass(frozen=True)
class DictionarySpec:
    """Specification of a family of dictionaries, smallest student first.

    Attributes:
        length: Number of ids of a text.
        classes: Number of classes.
        students: The students.
        label_bytes: Bytes of the class names, which each student's file contains, one per line.
        carrier: Carrier of the dictionary.
    """

    length: int
    classes: int
    students: tuple[DictionaryStudent, ...]
    label_bytes: int = 0
    carrier: Carrier = "words"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the students."""
        return tuple(student.name for student in self.students)

    def cost(self, student: DictionaryStudent) -> Cost:
        """Compute parameters, multiply-accumulates and the predicted size of a student's int8 file."""
        table = (student.rows + 1) * student.columns
        kernel = student.columns * self.classes
        return Cost(
            parameters=table + kernel + self.classes,
            macs=kernel,
            int8_bytes=file_bytes(self.carrier, student.rows, student.columns, self.classes)
            + student.carried
            + self.label_bytes,
        )

    def costs(self) -> dict[str, Cost]:
        """Compute the cost of each student, smallest first."""
        return {student.name: self.cost(student) for student in self.students}

    def to_dict(self) -> dict[str, Any]:
        """Convert to lists, strings and numbers, which `from_dict` reads."""
        return {**asdict(self), "students": [asdict(student) for student in self.students]}

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> DictionarySpec:
        """Read the result of `to_dict`.

        Raises:
            FamilyError: The mapping does not describe a family of dictionaries.
        """
        try:
            students = tuple(DictionaryStudent(**student) for student in tree["students"])
            return cls(tree["length"], tree["classes"], students, tree["label_bytes"], tree["carrier"])
        except (KeyError, TypeError) as error:
            raise FamilyError(
                f"a family's description must have length, classes and students; {error!r}. Distill again."
            ) from error


def file_bytes(carrier: Carrier, rows: int, columns: int, classes: int) -> int:
    """Predict the size of an int8 file without its dictionary and its labels."""
    return FILE_BYTES[carrier] + (rows + 1) * columns + classes * (columns + LOGIT_BYTES)
