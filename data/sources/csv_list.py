# SPDX-License-Identifier: Apache-2.0
"""Reads images that a .csv file lists: a path and a label in each row, and a split where there is a third column.

    path,label,split                or, without a header,   photos/1.jpg,daisy
    photos/1.jpg,daisy,train

Paths are relative to the file's folder. The header's names are those in `COLUMNS`. Columns may also be separated by
semicolons or tabs. Labels that are all whole numbers are ordered as numbers.
"""

import csv
import hashlib
import io
from pathlib import Path

from learn2compress.data.raw_examples import EvenSample, ExampleSource, Part, order_classes
from learn2compress.data.sources.folder import FILES_A_PIECE, PARTS, FolderPiece
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import DataError

COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path"),
    "label": ("label", "class", "class_name", "target", "category"),
    "split": ("split", "part", "subset", "set", "partition"),
}
_ORDER: tuple[Part, ...] = ("train", "validation", "test", None)


def open_csv(config: DataConfig, limit: int | None = None) -> ExampleSource:
    """Open a list of images.

    Raises:
        DataError: The file is no such list, a row lacks its path or label, or an image is not there.
    """
    path = Path(config.path)
    files: dict[Part, list[tuple[str, str]]] = {}
    for part, name, label in _rows(path):
        files.setdefault(part, []).append((name, label))
    if len(files) > 1 and (None in files or "train" not in files):
        raise DataError(
            f"each row of {path} must name its split, and some of them train, or none must; got "
            f"{', '.join(str(part or 'none') for part in files)}. Fill in the column, or remove it."
        )
    labels = {label for rows in files.values() for _, label in rows}
    found = sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)
    classes = order_classes(found, config.classes, str(path))
    counts: dict[Part, int] = {}
    pieces = []
    for part in (part for part in _ORDER if part in files):
        rows = sorted(files[part], key=lambda row: (classes.index(row[1]), row[0]))
        sample = EvenSample(len(rows), limit)
        counts[part] = len(sample)
        for positions in sample.ranges(FILES_A_PIECE):
            chosen = (rows[sample.row(position)] for position in positions)
            labelled = tuple((name, classes.index(of)) for name, of in chosen)
            pieces.append(FolderPiece(str(path.parent), part, labelled, config.max_pixels))
    return ExampleSource(classes, counts, None, pieces, named=not all(name.isdecimal() for name in classes))


def csv_digest(config: DataConfig) -> str:
    """Compute the digest of the list and of all images in it."""
    path = Path(config.path)
    lines = sorted(f"{file_sha256(path.parent / name)}  {name}\n" for _, name, _ in _rows(path))
    return hashlib.sha256("".join([f"{file_sha256(path)}\n", *lines]).encode()).hexdigest()


def _rows(path: Path) -> list[tuple[Part, str, str]]:
    """Return the split, the path and the label of each row."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), skipinitialspace=True)
        table = [row for row in reader if any(field.strip() for field in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} must be a .csv file in UTF-8; got: {error}. Save it anew.") from error
    columns = _columns(table[0]) if table else None
    first = 0 if columns is None else 1
    columns = columns or {"path": 0, "label": 1}
    rows: list[tuple[Part, str, str]] = []
    labels: dict[str, str] = {}
    for number, row in enumerate(table[first:], first + 1):
        if len(row) <= max(columns.values()):
            raise DataError(f"row {number} of {path} must hold a path and a label; got {', '.join(row)}. Correct it.")
        name, label = row[columns["path"]].strip(), row[columns["label"]].strip()
        if "\\" in name and not (path.parent / name).is_file():
            name = name.replace("\\", "/")  # as Windows writes paths
        split = row[columns["split"]].strip().lower() if "split" in columns else ""
        if split and split not in PARTS:
            raise DataError(
                f"the split in row {number} of {path} must be one of {', '.join(PARTS)}; got {split!r}. Correct it."
            )
        if not (path.parent / name).is_file():
            if number == 1:
                raise DataError(
                    f"the first row of {path} must name an image and its label, or be a header with one of "
                    f"{', '.join(COLUMNS['path'])} and one of {', '.join(COLUMNS['label'])}; got {', '.join(row)}. "
                    "Rename its columns."
                )
            raise DataError(f"row {number} of {path} must name an image; got {name}, which is not there. Correct it.")
        if not label:
            raise DataError(f"row {number} of {path} must hold a label; got none for {name}. Fill it in.")
        if labels.setdefault(name, label) != label:
            raise DataError(
                f"each image of {path} must have one label; got {label} in row {number} for {name}, which is "
                f"{labels[name]} above. Remove one of the rows; images of several classes at once are not supported."
            )
        rows.append((PARTS[split] if split else None, name, label))
    if not rows:
        raise DataError(f"{path} must list images; got no row. Write a path and a label in each row.")
    return rows


def _separator(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    return next((mark for mark in ",;\t" if mark in first), ",")


def _columns(header: list[str]) -> dict[str, int] | None:
    names = [name.strip().lower() for name in header]
    found = {
        column: next(names.index(name) for name in known if name in names)
        for column, known in COLUMNS.items()
        if set(known) & set(names)
    }
    return found if {"path", "label"} <= set(found) else None
