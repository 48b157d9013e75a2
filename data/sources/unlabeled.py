# SPDX-License-Identifier: Apache-2.0
"""Reads examples without labels (`data.unlabeled`), with the same pieces as labelled ones.

For images, the source is a folder of images of any depth, with any names of sub-folders; an .npz file with images (or
train_images, x_train); or TFRecord files, whose records need no label. For texts, see text/unlabeled.py. Labels and
splits in the source are ignored.
"""

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from learn2compress.data.raw_examples import UNLABELED, EvenSample, Piece, RawExample
from learn2compress.data.record_files import count_records
from learn2compress.data.sources.folder import FILES_A_PIECE, FolderPiece, Passed, folder_digest, visible_files
from learn2compress.data.sources.npz import (
    MOST_PIECES,
    PIECE_BYTES,
    Array,
    image_shape,
    list_arrays,
    npz_digest,
    to_pixels,
)
from learn2compress.data.sources.recognition import find_modality
from learn2compress.data.sources.text.unlabeled import open_unlabeled_texts, unlabeled_texts_digest
from learn2compress.data.sources.tfrecord import TFRecordPiece, holds_records, list_files, tfrecord_digest
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError

NO_LABEL = -1
_ARRAYS = ("images", "train_images", "x_train")


@dataclass(frozen=True)
class UnlabeledSource:
    """The number of images after the limit, and the pieces that workers read."""

    count: int
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class ImagesPiece(Piece):
    """Some of the sampled rows of an array of images."""

    images: Array
    sample: EvenSample
    positions: range

    def read(self) -> Iterator[RawExample]:
        wanted = [self.sample.row(position) for position in self.positions]
        chosen = set(wanted)
        for row, image in enumerate(self.images.rows(wanted[0]), wanted[0]):
            name = f"{self.images.name}[{row}]"
            if row in chosen:
                yield RawExample(name, UNLABELED, NO_LABEL, to_pixels(image, f"{self.images.path}: {name}"))
            if row == wanted[-1]:
                return


def open_unlabeled(config: DataConfig, limit: int | None = None) -> UnlabeledSource:
    """Opens the examples at `data.unlabeled`, which are of the modality of the labelled ones.

    Args:
        config: Section `data` with `unlabeled`.
        limit: Number of images to take, evenly spaced; None for all.

    Raises:
        DataError: There are no examples, or they are in an unsupported format.
    """
    location = _location(config)
    here = config.model_copy(update={"path": location})
    if find_modality(config) == "text":
        source = UnlabeledSource(*open_unlabeled_texts(here, limit))
    else:
        source = _FORMATS[_find_format(location)][0](here, limit)
    if not source.count:
        raise DataError(f"data.unlabeled must hold {find_modality(config)}s; got none at {location}. Check the path.")
    return source


def unlabeled_digest(config: DataConfig) -> str:
    """Computes the SHA-256 of the content of the examples, as `data_digest` does for labelled ones."""
    location = _location(config)
    here = config.model_copy(update={"path": location})
    if find_modality(config) == "text":
        return unlabeled_texts_digest(here)
    return _FORMATS[_find_format(location)][1](here)


def _location(config: DataConfig) -> str:
    if config.unlabeled is None:
        raise DataError("data.unlabeled must be given where images without labels are read; got none. Name a folder.")
    return config.unlabeled


def _find_format(location: str) -> str:
    path = Path(location)
    if path.is_dir():
        return "tfrecord" if holds_records(path) else "folder"
    if path.suffix == ".npz" and path.is_file():
        return "npz"
    if path.is_file() if "tfrecord" in path.name else glob.glob(location, recursive=True):
        return "tfrecord"
    raise DataError(
        f"data.unlabeled must be a folder of images, a .npz file or TFRecord files; got {location}. Check the path."
    )


def _open_folder(config: DataConfig, limit: int | None) -> UnlabeledSource:
    root = Path(config.path)
    files = [(name, NO_LABEL) for name in Passed().sort_out(visible_files(root, root))]
    sample = EvenSample(len(files), limit)
    pieces = [
        FolderPiece(
            str(root), UNLABELED, tuple(files[sample.row(position)] for position in positions), config.max_pixels
        )
        for positions in (sample.ranges(FILES_A_PIECE) if files else ())
    ]
    return UnlabeledSource(len(sample), pieces)


def _open_npz(config: DataConfig, limit: int | None) -> UnlabeledSource:
    arrays = list_arrays(config.path)
    name = next((name for name in _ARRAYS if name in arrays), None)
    if name is None:
        raise DataError(
            f"{config.path} must hold {', '.join(_ARRAYS[:-1])} or {_ARRAYS[-1]}; got "
            f"{', '.join(sorted(arrays)) or 'no array'}. Save it with one of those names."
        )
    images = arrays[name]
    image_shape(images)
    sample = EvenSample(images.shape[0], limit)
    ranges = sample.ranges(max(1, PIECE_BYTES // images.row_bytes), MOST_PIECES)
    return UnlabeledSource(len(sample), [ImagesPiece(images, sample, positions) for positions in ranges])


def _open_tfrecord(config: DataConfig, limit: int | None) -> UnlabeledSource:
    files = list_files(config.path)
    held = {name: count_records(path) for name, path in files.items()}
    sample, pieces, before = EvenSample(sum(held.values()), limit), [], 0
    for name, path in files.items():
        names = config.image_feature, config.label_feature
        pieces.append(
            TFRecordPiece(str(path), name, UNLABELED, sample, before, held[name], *names, None, config.max_pixels)
        )
        before += held[name]
    return UnlabeledSource(len(sample), pieces if sample.total else [])


_FORMATS: dict[str, tuple[Callable[[DataConfig, int | None], UnlabeledSource], Callable[[DataConfig], str]]] = {
    "folder": (_open_folder, folder_digest),
    "npz": (_open_npz, npz_digest),
    "tfrecord": (_open_tfrecord, tfrecord_digest),
}
