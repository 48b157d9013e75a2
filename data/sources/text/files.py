# SPDX-License-Identifier: Apache-2.0
"""Lists the tables of texts at a path, and the split that the name of each states."""

import glob
import hashlib
import re
from pathlib import Path

from learn2compress.data.raw_examples import Part
from learn2compress.data.sources.text.rows import TABLE_SUFFIXES
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import DataError

PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_RECORDS = re.compile(r"tfrecord|-\d{5}-of-\d{5}$")


def table_format(path: Path) -> str | None:
    """Tells the format of a table by its name; None if it is none."""
    found = TABLE_SUFFIXES.get(path.suffix.lower())
    return found or ("tfrecord" if _RECORDS.search(path.name) else None)


def list_tables(config: DataConfig) -> dict[str, tuple[Path, str]]:
    """Lists the tables of `data.path`, a file, a folder or a pattern, with their formats, in the order of their names.

    Raises:
        DataError: There is none, or there are several formats.
    """
    root = Path(config.path)
    if root.is_dir():
        paths = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        paths = [path for path in paths if table_format(path)]
        files = {path.relative_to(root).as_posix(): path for path in paths}
    else:
        paths = [root] if root.is_file() else [Path(p) for p in sorted(glob.glob(config.path, recursive=True))]
        files = {path.name: path for path in paths}
        if len(files) < len(paths):
            files = {str(path): path for path in paths}
    given = None if config.format in ("auto", "folder") else config.format
    tables = {name: (path, given or table_format(path) or "") for name, path in files.items()}
    if given and root.is_dir():
        tables = {name: (path, kind) for name, (path, kind) in tables.items() if table_format(path) == given}
    kinds = sorted({kind for _, kind in tables.values()})
    if len(kinds) != 1 or "" in kinds:
        got = (
            f"files of the formats {', '.join(kinds)}"
            if len(kinds) > 1
            else "a file of unknown format"
            if kinds
            else "none"
        )
        raise DataError(
            f"data.path must hold .csv, .tsv, .jsonl, .parquet or TFRecord files of one format; got {got} at "
            f"{config.path}. Set data.format, or check the path."
        )
    return tables


def tables_digest(config: DataConfig) -> str:
    """Computes the digest of the tables and their names."""
    lines = [f"{file_sha256(path)}  {name}\n".encode() for name, (path, _) in list_tables(config).items()]
    return hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def part_of_name(name: str) -> Part:
    """Returns the split that the name of a file, or of the nearest folder, states."""
    for word in reversed(Path(name.lower()).parts):
        told = {PARTS[piece] for piece in re.split(r"[^a-z]+", word) if piece in PARTS}
        if len(told) == 1:
            return told.pop()
    return None
