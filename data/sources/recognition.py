# SPDX-License-Identifier: Apache-2.0
"""Tells texts from images, by the configuration, by columns and by the names of files."""

import csv
import glob
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from learn2compress.data.record_files import read_records
from learn2compress.data.sources.csv_list import COLUMNS
from learn2compress.data.sources.text.columns import TEXT_NAMES
from learn2compress.data.sources.text.files import table_format
from learn2compress.data.sources.tfrecord import parse_example
from learn2compress.modalities.image.pixels import OTHER_PICTURES, SUFFIXES
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import ModalityName

_LOOKED_AT = 10_000  # files of a folder
_PICTURES = (*SUFFIXES, *OTHER_PICTURES)


def find_modality(config: DataConfig) -> ModalityName:
    """Tells the modality of the data.

    `data.modality` decides if it is set. Otherwise .tsv, .jsonl and .parquet files are texts, the header of a .csv file
    and the first record of a TFRecord file tell, and a folder with pictures is one of images.

    Raises:
        DataError: A table has a column of texts as well as one of paths.
    """
    if config.modality is not None:
        return config.modality
    if config.path == "digits" or config.format in ("npz", "digits"):
        return "image"
    if config.text_column is not None or config.format in ("tsv", "jsonl", "parquet"):
        return "text"
    path = Path(config.path)
    if path.is_dir():
        return _of_folder(path, config)
    files = [path] if path.is_file() else [Path(p) for p in sorted(glob.glob(config.path, recursive=True))[:1]]
    return _of_file(files[0], config) if files else "image"


def _of_folder(folder: Path, config: DataConfig) -> ModalityName:
    names = list(islice(_files(folder), _LOOKED_AT))
    if any(path.name.lower().endswith(_PICTURES) for path in names):
        return "image"
    table = next((path for path in names if table_format(path)), None)
    if table is not None:
        return _of_file(table, config)
    return "text" if any(path.suffix.lower() == ".txt" for path in names) else "image"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))


def _of_file(path: Path, config: DataConfig) -> ModalityName:
    kind = table_format(path) if config.format == "auto" else config.format
    if kind == "csv":
        return _of_header(path)
    if kind == "tfrecord":
        return _of_record(path, config)
    return "text" if kind else "image"


def _of_header(path: Path) -> ModalityName:
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as stream:
            header = next(csv.reader(stream), [])
    except (OSError, csv.Error):
        return "image"  # whose source says what is wrong
    names = {name.strip().lower() for name in header}
    texts, paths = names & set(TEXT_NAMES), names & set(COLUMNS["path"])
    if texts and paths:
        raise DataError(
            f"{path} must be a table of texts or of images; got the columns {', '.join(sorted(texts | paths))}. Set "
            "data.modality to text or image."
        )
    return "text" if texts else "image"


def _of_record(path: Path, config: DataConfig) -> ModalityName:
    try:
        features = parse_example(next(read_records(path)), f"{path}, record 0")
    except (DataError, StopIteration):
        return "image"  # whose source says what is wrong
    if config.image_feature in features or any("image" in name.lower() for name in features):
        return "image"
    return "text" if set(TEXT_NAMES) & {name.lower() for name in features} else "image"
