# SPDX-License-Identifier: Apache-2.0
"""Opening the user's examples, whatever their format. Needs neither Beam nor TensorFlow before a record is read."""

import glob
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from learn2compress.data.raw_examples import ExampleSource
from learn2compress.data.sources.csv_list import csv_digest, open_csv
from learn2compress.data.sources.digits import digits_digest, open_digits
from learn2compress.data.sources.folder import folder_digest, open_folder
from learn2compress.data.sources.npz import npz_digest, open_npz
from learn2compress.data.sources.recognition import find_modality
from learn2compress.data.sources.text.formats import open_texts, texts_digest, texts_format
from learn2compress.data.sources.tfrecord import holds_records, open_tfrecord, tfrecord_digest
from learn2compress.data.sources.unlabeled import unlabeled_digest
from learn2compress.modalities import modality_named
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import Task


@dataclass(frozen=True)
class Format:
    """How data of a format is opened, and how its content is named by a digest."""

    open: Callable[[DataConfig, int | None], ExampleSource]
    digest: Callable[[DataConfig], str]


FORMATS = {
    "folder": Format(open_folder, folder_digest),
    "npz": Format(open_npz, npz_digest),
    "tfrecord": Format(open_tfrecord, tfrecord_digest),
    "csv": Format(open_csv, csv_digest),
    "digits": Format(open_digits, digits_digest),
}


def open_source(config: DataConfig, limit: int | None = None) -> ExampleSource:
    """Open the examples.

    Args:
        limit: How many examples to take of each part, evenly spaced; all without it.

    Raises:
        DataError: There is nothing at the path, its format cannot be told, or what is there is no data set.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1; got {limit}. Leave it out to use all examples.")
    if find_modality(config) == "text":
        return open_texts(config, limit)
    return FORMATS[find_format(config)].open(config, limit)


def data_digest(config: DataConfig) -> str:
    """Compute a SHA-256 of the examples' content, so that a changed file is noticed whatever its date.

    Returns:
        64 hexadecimal digits: of the .npz file, of all below the folder, of the TFRecord files, of the digits' arrays;
        where there are images without labels, the SHA-256 of that line and of theirs.

    Raises:
        DataError: There is nothing at the path, its format cannot be told, or a file cannot be read.
    """
    try:
        is_text = find_modality(config) == "text"
        digest = texts_digest(config) if is_text else FORMATS[find_format(config)].digest(config)
        if config.unlabeled is None:
            return digest
        return hashlib.sha256(f"{digest}\n{unlabeled_digest(config)}\n".encode()).hexdigest()
    except OSError as error:
        raise DataError(
            f"{error.filename or config.path} must be readable; got: {error.strerror}. Check its permissions."
        ) from error


def find_format(config: DataConfig) -> str:
    """Tell the format: the configured one, or what the path looks like.

    Raises:
        DataError: There is nothing at the path, or its format cannot be told or is one of texts, for images.
    """
    if find_modality(config) == "text":
        return texts_format(config)
    if config.format in ("tsv", "jsonl", "parquet"):
        raise DataError(
            f"data.format must be one of {', '.join(FORMATS)} for images; got {config.format}. Change it, or set "
            "data.modality: text."
        )
    if config.path == "digits" and config.format in ("auto", "digits"):
        return "digits"
    path = Path(config.path)
    is_pattern = bool(glob.glob(config.path, recursive=True)) and not path.exists()
    if config.format == "digits":
        raise DataError(f"data.path must be the word digits where data.format is; got {path}. Change one of the two.")
    if not path.exists() and not is_pattern:
        raise DataError(f"data.path must be an existing file or folder; got {path}. Check the path.")
    if config.format != "auto":
        single = config.format in ("npz", "csv")
        if path.is_dir() if single else config.format == "folder" and not path.is_dir():
            kind = "a file" if single else "a folder"
            raise DataError(f"data.path must be {kind} where data.format is {config.format}; got {path}. Change one.")
        return config.format
    if path.is_dir():
        return "tfrecord" if holds_records(path) else "folder"
    if path.suffix.lower() == ".npz":
        return "npz"
    if path.suffix.lower() == ".csv":
        return "csv"
    if is_pattern or "tfrecord" in path.name:
        return "tfrecord"
    raise DataError(
        f"data.path must be an image folder, a .npz or .csv file, or TFRecord files; the format of {path} cannot be "
        "told. Set data.format."
    )


def resolve_task(config: DataConfig, source: ExampleSource, default: tuple[int | None, ...] | None = None) -> Task:
    """Settle what is classified: the form that every example is brought to, and the classes.

    Args:
        default: What stands in for what the config leaves open: the teacher's input shape.

    Raises:
        DataError: Nobody says, as with a folder of images of many sizes.
    """
    shape = modality_named(source.modality).resolve_shape(config, source.example_shape, default)
    return Task(modality=source.modality, input_shape=shape, classes=list(source.classes))
