# SPDX-License-Identifier: Apache-2.0
"""Reads labelled texts from tables: CSV, TSV, JSON lines, Parquet or TFRecord files.

    text,label,split,group            The columns split and group are optional. Files whose names contain train,
    "It broke, twice.",refund,train,u1      validation or test form these splits as well; a column goes before a name.

Each table is read once when it is opened, for its labels, splits and groups. Examples of a group are in one split.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from learn2compress.data.raw_examples import EvenSample, ExampleSource, Part, Piece, RawExample
from learn2compress.data.sources.text.columns import Columns, find_columns
from learn2compress.data.sources.text.files import PARTS, list_tables, part_of_name
from learn2compress.data.sources.text.labels import Classes, find_classes
from learn2compress.data.sources.text.lengths import Lengths
from learn2compress.data.sources.text.rows import Row, class_names, column_names, read_rows
from learn2compress.modalities.text.records import check_text
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import BadFile

ROWS_A_PIECE = 20_000
_ORDER: tuple[Part, ...] = ("train", "validation", "test", None)
_NO_LABEL = "it has no label; texts without labels belong in data.unlabeled"


@dataclass(frozen=True)
class Table:
    """A table and where its rows stand among all of a part.

    Attributes:
        path: The file.
        name: Its name in the data.
        format: Its format.
        columns: Its columns.
        part: Split that its name states.
        before: Number of rows of each part in the tables before.
    """

    path: Path
    name: str
    format: str
    columns: Columns
    part: Part
    before: Mapping[Part, int]

    def rows(self) -> Iterator[tuple[Row, Part, str]]:
        """Reads the rows with the part of each and the reason why it cannot be used, empty if it can.

        Raises:
            DataError: A row states an unknown split.
        """
        for row in read_rows(self.path, self.format, self.columns):
            part, reason = self.part, row.bad
            if row.split is not None:
                if row.split.lower() not in PARTS:
                    raise DataError(
                        f"the split in row {row.number} of {self.path} must be one of {', '.join(PARTS)}; got "
                        f"{row.split[:40]!r}. Correct it, or set data.split_column to another column."
                    )
                part = PARTS[row.split.lower()]
            if not reason:
                try:
                    check_text(row.text)
                except ValueError as error:
                    reason = str(error)
            if not reason and self.columns.label and row.label is None:
                reason = _NO_LABEL
            yield row, part, reason


@dataclass(frozen=True)
class TablePiece(Piece):
    """Some rows of a table.

    Attributes:
        table: The table.
        rows: Numbers of the rows.
        samples: Rows that are used, by part.
        labels: Index of each label.
        part: Part of all rows, whatever the table says; None if it says so.
    """

    table: Table
    rows: range
    samples: Mapping[Part, EvenSample]
    labels: Mapping[str, int]
    part: Part = None

    def read(self) -> Iterator[RawExample | BadFile]:
        counted = dict(self.table.before)
        for row, stated, reason in self.table.rows():
            if row.number >= self.rows.stop:
                return
            part = self.part or stated
            source = f"{self.table.name}#{row.number}"
            if reason:
                # A sample is for a first try, which the rows that it leaves out do not concern.
                if row.number in self.rows and self.samples[part].limit is None:
                    yield BadFile(source=source, reason=reason)
                continue
            ordinal = counted.get(part, 0)
            counted[part] = ordinal + 1
            if row.number in self.rows and _is_chosen(self.samples[part], ordinal):
                label = -1 if row.label is None or not self.labels else self.labels[row.label]
                yield RawExample(source, part, label, row.text, row.group)


@dataclass
class _Found:
    """What reading the tables once shows."""

    counts: dict[Part, int] = field(default_factory=dict)
    labels: dict[Part, set[str]] = field(default_factory=dict)
    groups: dict[str, tuple[Part, str]] = field(default_factory=dict)
    lengths: Lengths = field(default_factory=Lengths)
    sizes: dict[str, int] = field(default_factory=dict)
    without_words: int = 0


def open_tables(config: DataConfig, limit: int | None = None) -> ExampleSource:
    """Opens tables of labelled texts.

    Raises:
        DataError: There is no table, a column is missing, or labels, splits or groups contradict each other.
    """
    found, tables, stated = _Found(), list[Table](), None
    files = list_tables(config)
    for name, (path, table_format) in files.items():
        # The name of a single file states no split: train.csv alone is divided, and test.csv alone is measured on.
        part = part_of_name(name) if len(files) > 1 else None
        columns = find_columns(column_names(path, table_format), config, str(path))
        stated = stated or class_names(path, table_format, columns.label)
        table = Table(path, name, table_format, columns, part, dict(found.counts))
        _scan(table, found)
        tables.append(table)
    _check_parts(found.counts, config.path)
    classes = find_classes(found.labels, config, config.path, stated)
    samples = {part: EvenSample(total, limit) for part, total in found.counts.items()}
    return ExampleSource(
        classes.names,
        {part: len(samples[part]) for part in _ORDER if part in samples},
        found.lengths.suggest(),
        make_pieces(tables, found.sizes, samples, classes),
        modality="text",
        named=classes.named,
        notes=tuple(_notes(found)),
    )


def make_pieces(
    tables: list[Table],
    sizes: Mapping[str, int],
    samples: Mapping[Part, EvenSample],
    classes: Classes | None,
    part: Part = None,
) -> list[TablePiece]:
    """Divides tables into pieces.

    Args:
        tables: The tables.
        sizes: Number of rows of each table by name.
        samples: Rows that are used, by part.
        classes: Classes; None if labels are ignored.
        part: Part of all rows; None if the tables say so.
    """
    labels = classes.indices if classes else {}
    return [
        TablePiece(table, range(first, min(first + ROWS_A_PIECE, sizes[table.name])), samples, labels, part)
        for table in tables
        for first in range(0, sizes[table.name], ROWS_A_PIECE)
    ]


def _scan(table: Table, found: _Found) -> None:
    found.sizes[table.name] = 0
    for row, part, reason in table.rows():
        found.sizes[table.name] += 1
        if reason:
            found.counts.setdefault(part, 0)
            continue
        assert row.label is not None
        found.counts[part] = found.counts.get(part, 0) + 1
        found.labels.setdefault(part, set()).add(row.label)
        if part in (None, "train"):
            found.lengths.add(row.text)
        found.without_words += not any(map(str.isalnum, row.text))
        if row.group is None:
            continue
        source = f"{table.name}#{row.number}"
        other, first = found.groups.setdefault(row.group, (part, source))
        if other != part:
            raise DataError(
                f"a group must be in one split; got {row.group[:40]!r} in {other or 'none'} ({first}) and in "
                f"{part or 'none'} ({source}). Move its texts to one of the two, or leave out the splits."
            )


def _check_parts(counts: Mapping[Part, int], where: str) -> None:
    if not sum(counts.values()):
        raise DataError(f"{where} must hold texts with labels; got none that can be read. Check data.path.")
    parts = [part for part, count in counts.items() if count]
    if len(parts) > 1 and (None in parts or "train" not in parts):
        raise DataError(
            f"each text of {where} must have a split, and some of them train, or none must; got "
            f"{', '.join(str(part or 'none') for part in parts)}. Fill in the column or rename the files."
        )


def _notes(found: _Found) -> Iterator[str]:
    if found.without_words:
        yield f"texts without a word, such as empty ones, {found.without_words}: students see nothing of them"


def _is_chosen(sample: EvenSample, ordinal: int) -> bool:
    if sample.limit is None:
        return True
    position = -(-ordinal * len(sample) // sample.total)
    return position < len(sample) and sample.row(position) == ordinal
