# SPDX-License-Identifier: Apache-2.0
"""What every source of labelled examples offers, whatever its format: the one place where a new kind of data plugs in.

A source is opened from a `DataConfig` (see sources/formats.py). It knows its classes and how many examples it has
without having read one of them, and is cut into pieces that Beam hands to its workers. A piece carries all that its
reading needs, so that a worker relies on nothing of the process that opened the source.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import DEFAULT_MODALITY, BadFile, ModalityName, Split

UNLABELED: Literal["unlabeled"] = "unlabeled"
Part = Split | Literal["unlabeled"] | None
"""The split to which a source assigns an example, or no split; None where it leaves that to us."""


@dataclass(frozen=True)
class RawExample:
    """A labelled example as its source holds it.

    Attributes:
        source: Where it came from: a file, or a file and a row of it.
        part: Its split, if the source says.
        label: Index of its class; -1 where it has none.
        content: As `modalities.protocol` calls raw: of an image, [height, width, 1 or 3] uint8.
    """

    source: str
    part: Part
    label: int
    content: Any


class Piece(ABC):
    """A share of a source that one worker reads in one go; it can be pickled."""

    @abstractmethod
    def read(self) -> Iterator[RawExample | BadFile]:
        """Read the examples one after another; what cannot be decoded comes as a BadFile.

        Raises:
            DataError: The source itself is broken.
        """


@dataclass(frozen=True)
class ExampleSource:
    """An opened source.

    Attributes:
        classes: Names of the classes, in label order.
        counts: How many examples each part has, after the limit.
        example_shape: As in `Task.input_shape`, where all of its examples have the same.
        pieces: Its shares.
        modality: Of the examples.
    """

    classes: tuple[str, ...]
    counts: dict[Part, int]
    example_shape: tuple[int, ...] | None
    pieces: Sequence[Piece]
    modality: ModalityName = DEFAULT_MODALITY


@dataclass(frozen=True)
class EvenSample:
    """Which of `total` rows in order are taken: all, or `limit` of them evenly spaced, so that rows sorted by class
    stay balanced and the choice is the same each time."""

    total: int
    limit: int | None

    def __len__(self) -> int:
        return self.total if self.limit is None else min(self.limit, self.total)

    def row(self, position: int) -> int:
        """The row that is taken as the `position`-th."""
        return position * self.total // len(self)

    def ranges(self, most_rows: int, most_ranges: int | None = None) -> list[range]:
        """The positions, cut into ranges of at most `most_rows`, unless that makes too many of them."""
        size = max(1, most_rows)
        if most_ranges is not None:
            size = max(size, -(-len(self) // most_ranges))
        return [range(start, min(start + size, len(self))) for start in range(0, len(self), size)]


def order_classes(found: Sequence[str], wanted: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Settle the label order: as the user says, or as the data has it.

    Raises:
        DataError: There are fewer than two classes, or the two do not hold the same names.
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
    if len(found) < 2:
        raise DataError(
            f"{where} must hold at least two classes; got {_some(found) or 'none'}. A classifier needs something to "
            "tell apart; check data.path."
        )
    return tuple(wanted if wanted is not None else found)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
