# SPDX-License-Identifier: Apache-2.0
"""Reads the rows of a table of texts, in the same form from CSV, TSV, JSON lines, Parquet and TFRecord files.

Bytes that are not UTF-8 do not end the reading: they are kept as surrogates, by which the row is refused later, so that
such rows are named and counted. TSV fields have no quoting, except those that begin and end with a quotation mark.
"""

import csv
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from learn2compress.data.record_files import read_records
from learn2compress.data.sources.text.columns import Columns
from learn2compress.data.sources.tfrecord import parse_example
from learn2compress.schemas.errors import DataError

TABLE_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_ROWS_A_BATCH = 2048


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        number: Number of the row from 0, without the header.
        text: Text, not yet checked.
        label: Label as text; None without one.
        split: Split as the table names it; None without one.
        group: Group; None without one.
        bad: Reason why the row cannot be read; empty if it can.
    """

    number: int
    text: Any
    label: str | None = None
    split: str | None = None
    group: str | None = None
    bad: str = ""


def column_names(path: Path, table_format: str) -> list[str]:
    """Reads the names of a table's columns, or of the features of the first record.

    Raises:
        DataError: The file is empty or is no such table.
    """
    if table_format == "parquet":
        return list(_parquet(path).schema_arrow.names)
    if table_format in ("csv", "tsv"):
        names = next(_separated(path, table_format), None)
    else:
        # Objects may leave out keys that are empty, so more than one is looked at.
        some = islice(_objects(path) if table_format == "jsonl" else _features(path), 100)
        names = list(dict.fromkeys(name for one in some if isinstance(one, dict) for name in one))
    if not names:
        raise DataError(f"{path} must hold rows with named columns; got an empty file. Check data.path.")
    return names


def class_names(path: Path, table_format: str, label: str | None) -> list[str] | None:
    """Reads the names of numbered classes that Parquet files of the package `datasets` hold; None without them."""
    if table_format != "parquet":
        return None
    metadata = (_parquet(path).schema_arrow.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(metadata)["info"]["features"][label]["names"] if metadata else None
    except (ValueError, KeyError, TypeError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def read_rows(path: Path, table_format: str, columns: Columns) -> Iterator[Row]:
    """Reads the rows of a table.

    Raises:
        DataError: The file is damaged or is no such table.
    """
    wanted = [columns.text, columns.label, columns.split, columns.group]
    for number, fields in enumerate(_fields(path, table_format, [name for name in wanted if name])):
        if isinstance(fields, str):
            yield Row(number, None, bad=fields)
            continue
        text, label, split, group = (fields.get(name) if name else None for name in wanted)
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        yield Row(number, text, _as_label(label), _as_label(split), _as_label(group))


def _fields(path: Path, table_format: str, wanted: list[str]) -> Iterator[dict[str, Any] | str]:
    """Yields the fields of each row, or the reason why it cannot be read."""
    if table_format == "parquet":
        for batch in _parquet(path).iter_batches(_ROWS_A_BATCH, columns=wanted):
            yield from batch.to_pylist()
    elif table_format == "jsonl":
        yield from _objects(path)
    elif table_format == "tfrecord":
        yield from _features(path)
    else:
        rows = _separated(path, table_format)
        header = next(rows, [])
        for row in rows:
            if len(row) == len(header):
                yield dict(zip(header, row, strict=True))
            else:
                yield f"it has {len(row)} fields, where the header has {len(header)}"


def _separated(path: Path, table_format: str) -> Iterator[list[str]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with open(path, "rb") as raw:
            if raw.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise DataError(f"{path} must be in UTF-8; got UTF-16. Save it as UTF-8.")
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            if table_format == "tsv":
                lines = (line.rstrip("\r\n") for line in stream)
                yield from ([_unquote(field) for field in line.split("\t")] for line in lines if line.strip())
            else:
                yield from (row for row in csv.reader(stream) if row)
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} must be a readable .{table_format} file; got: {error}. Save it anew.") from error


def _unquote(field: str) -> str:
    inner = field[1:-1].replace('""', "")
    if len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in inner:
        return field[1:-1].replace('""', '"')
    return field


def _objects(path: Path) -> Iterator[dict[str, Any] | str]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as stream:
            for line in stream:
                if not line.strip():
                    continue
                try:
                    parsed = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield f"it is no JSON: {error}"
                    continue
                yield parsed if isinstance(parsed, dict) else f"it is a JSON {type(parsed).__name__}, not an object"
    except OSError as error:
        raise DataError(f"{path} must be readable; got: {error.strerror}. Check its permissions.") from error


def _features(path: Path) -> Iterator[dict[str, Any]]:
    for index, data in enumerate(read_records(path)):
        features = parse_example(data, f"{path}, record {index}")
        yield {name: _feature_value(features[name]) for name in sorted(features)}


def _feature_value(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    values: Any = getattr(feature, kind).value if kind else ()
    return values[0] if len(values) == 1 else None


def _parquet(path: Path) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} must be a Parquet file; got: {str(error).splitlines()[0]}. Save it anew.") from error


def _as_label(value: Any) -> str | None:
    """Writes a label as text: 1 and 1.0 are the same, and nothing is None."""
    if value is None:
        return None
    if isinstance(value, float):
        if value != value:  # NaN, by which pandas marks what is missing
            return None
        value = int(value) if value.is_integer() else value
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.strip() or None
