# SPDX-License-Identifier: Apache-2.0
"""Opens labelled texts, whatever their format."""

import glob
from pathlib import Path

from learn2compress.data.raw_examples import ExampleSource
from learn2compress.data.sources.text.files import list_tables, table_format, tables_digest
from learn2compress.data.sources.text.folder import open_text_folder, text_folder_digest
from learn2compress.data.sources.text.tables import open_tables
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError

_OTHERS = ("npz", "digits")


def open_texts(config: DataConfig, limit: int | None = None) -> ExampleSource:
    """Opens the texts.

    Raises:
        DataError: There is nothing at the path, or it holds no labelled texts.
    """
    return open_text_folder(config, limit) if _is_folder(config) else open_tables(config, limit)


def texts_format(config: DataConfig) -> str:
    """Tells the format: folder, or that of the tables.

    Raises:
        DataError: There is nothing at the path, or its format cannot be told.
    """
    return "folder" if _is_folder(config) else next(kind for _, kind in list_tables(config).values())


def texts_digest(config: DataConfig) -> str:
    """Computes the SHA-256 of the texts' content.

    Raises:
        DataError: There is nothing at the path.
    """
    return text_folder_digest(config) if _is_folder(config) else tables_digest(config)


def _is_folder(config: DataConfig) -> bool:
    """Returns whether the texts are files in class folders, not rows of tables."""
    if config.format in _OTHERS:
        raise DataError(
            f"data.format must be folder, csv, tsv, jsonl, parquet or tfrecord for texts; got {config.format}. Change "
            "it, or set data.modality: image."
        )
    root = Path(config.path)
    if not root.exists() and not glob.glob(config.path, recursive=True):
        raise DataError(f"data.path must be an existing file or folder; got {root}. Check the path.")
    if not root.is_dir() or config.format not in ("auto", "folder"):
        if config.format == "folder":
            raise DataError(f"data.path must be a folder where data.format is folder; got {root}. Change one.")
        return False
    return config.format == "folder" or not any(table_format(path) for path in root.rglob("*") if path.is_file())
