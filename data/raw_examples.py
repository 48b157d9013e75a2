# SPDX-License-Identifier: Apache-2.0
"""Defines the interface of a source of labelled examples, which every format of data implements.

A source is opened from a `DataConfig` (see sources/formats.py). Its classes and its number of examples are determined
without reading the examples. It is divided into pieces, which Beam distributes to its workers. A piece holds all that
is needed to read it, so that a worker does not depend on the process that opened the source.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import DEFAULT_MODALITY, BadFile, ModalityName, Split

UNLABELED: Literal["unlabeled"] = "unlabeled"
Part = Split | Literal["unlabeled"] | None
"""Split to which a source assigns an example, or `unlabeled`; None if the source states no split."""


@dataclass(frozen=True)
class RawExample:
    """An example as its source provides it.

    Attributes:
        source: Name of the file, or of the file and the row, that contains the example.
        part: Split that the source states, or None.
        label: Index of the class; -1 without a label.
        content: Raw example, see `modalities.protocol`: an image is [height, width, 1 or 3] uint8.
        group: Name of the examples that must be in the same split, or None.
        file: Bytes of the file from which the content was decoded, if it may be stored in their place, or None.
    """

    source: str
    part: Part
    label: int
    content: Any
    group: str | None = None
    file: bytes | None = None


class Piece(ABC):
    """A part of a source that one worker reads at once; it can be pickled."""

    @abstractmethod
    def read(self) -> Iterator[RawExample | BadFile]:
        """Read the examples one after another; one that cannot be decoded is yielded as a BadFile.

        Raises:
            DataError: The source itself is damaged.
        """


@dataclass(frozen=True)
class ExampleSource:
    """An opened source.

    Attributes:
        classes: Names of the classes in label order.
        counts: Number of examples of each part, after the limit.
        example_shape: Shape of an example, as in `Task.input_shape`; None if shapes differ.
        pieces: Parts that workers read.
        modality: Name of the modality of the examples.
        named: Whether the classes are named by the data or by the user; else they are numbers that stand in for names.
        notes: What of the data is not used, or may not be meant so, in sentences.
    """

    classes: tuple[str, ...]
    counts: dict[Part, int]
    example_shape: tuple[int, ...] | None
    pieces: Sequence[Piece]
    modality: ModalityName = DEFAULT_MODALITY
    named: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvenSample:
    """A selection of rows: all `total` rows, or `limit` evenly spaced ones.

    Rows that are sorted by class stay balanced, and the selection is the same in each run.
    """

    total: int
    limit: int | None

    def __len__(self) -> int:
        return self.total if self.limit is None else min(self.limit, self.total)

    def row(self, position: int) -> int:
        """Returns the row at a position of the selection."""
        return position * self.total // len(self)

    def ranges(self, most_rows: int, most_ranges: int | None = None) -> list[range]:
        """Divides the positions into ranges of at most `most_rows`, or into `most_ranges` larger ones."""
        size = max(1, most_rows)
        if most_ranges is not None:
            size = max(size, -(-len(self) // most_ranges))
        return [range(start, min(start + size, len(self))) for start in range(0, len(self), size)]


MOST_CLASSES = 100_000
"""Classes that labels without names may number: one odd label must not make millions of names."""


def check_most_classes(highest: int, where: str) -> None:
    """Refuse a label so high that naming all classes up to it would fill the memory.

    Raises:
        DataError: It is one.
    """
    if highest >= MOST_CLASSES:
        raise DataError(f"labels in {where} must be below {MOST_CLASSES:,}; got {highest}. Number the classes anew.")


def order_classes(found: Sequence[str], wanted: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Determine the order of the classes: the user's, otherwise that of the data.

    Args:
        found: Names of the classes in the data.
        wanted: Names in the order of `data.classes`, or None.
        where: Name of the source for error messages.

    Raises:
        DataError: There are fewer than two classes, a name occurs twice, or the user's names are not those of the data.
    """
    if wanted is not None:
        absent = [name for name in wanted if name not in found]
        extra = [name for name in found if name not in wanted]
        if absent or extra or len(set(wanted)) < len(wanted):
            wrong = f"{absent[0]!r}, which it lacks" if absent else f"no {extra[0]!r}" if extra else "a name twice"
            raise DataError(
                f"data.classes must name each class of {where} once; got {wrong}. Its classes are {_some(found)}."
            )
    if len(set(found)) < len(found):
        raise DataError(f"the class names of {where} must differ; got {_some(found)}. Rename one.")
    broken = next((name for name in found if len(name.splitlines()) > 1 or not name.isprintable()), None)
    if broken is not None:
        raise DataError(
            f"the class names of {where} must be one printable line each, as labels.txt has them; got {broken[:80]!r}. "
            "Rename the class."
        )
    if len(found) < 2:
        raise DataError(
            f"{where} must hold at least two classes; got {_some(found) or 'none'}. A classifier needs at least "
            "two; check data.path."
        )
    return tuple(wanted if wanted is not None else found)


def check_first_label(lowest: int, config: DataConfig, where: str) -> int:
    """Settle the label of the first class, where labels are whole numbers and the classes have no names.

    Returns:
        `data.label_offset`, or 0.

    Raises:
        DataError: Labels lie below it, or none is 0 and the user does not say so.
    """
    first = config.label_offset or 0
    if lowest < first:
        raise DataError(
            f"labels in {where} must be indices from {first}; got {lowest}. Number them anew, or set "
            f"data.label_offset: {lowest} (evaluate: --label-offset {lowest})."
        )
    if lowest > first and config.label_offset is None:
        raise DataError(
            f"labels in {where} must begin at 0; got none below {lowest}, so that no example is of class 0. Set "
            f"data.label_offset: {lowest} (evaluate: --label-offset {lowest}) to count them from {lowest}, and where a "
            f"model has an output for class 0, leave that out: teacher.skip_class: 0 (evaluate: --skip-class 0)."
        )
    return first


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
