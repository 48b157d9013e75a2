# SPDX-License-Identifier: Apache-2.0
"""Reads images in a NumPy .npz file: train_images, train_labels, test_images, test_labels and class_names; or x_train,
y_train, x_test, y_test as written by Keras; or only images and labels. Validation images are taken under the names that
MedMNIST (val_images) and others (x_val, x_valid) give them. An array that is not used is named. A file of test images
alone can be evaluated.

The file is streamed: a piece reads its rows from the zip member and never holds the whole array. In a compressed
member, a reader that starts in the middle must decompress everything before it, so the file is split into few pieces.
"""

import math
import os
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np

from learn2compress.data.raw_examples import (
    EvenSample,
    ExampleSource,
    Part,
    Piece,
    RawExample,
    check_first_label,
    check_most_classes,
    order_classes,
)
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.files.archives import BROKEN_ARCHIVE

PIECE_BYTES = 16 << 20
MOST_PIECES = 8
_CHUNK_ROWS = 1 << 16
_STEP = 1 << 20
_MOST_ROW_BYTES = 1 << 29
_MOST_NAME_BYTES = 1 << 26

# (part, images, labels), one line for each naming scheme.
LAYOUTS: tuple[tuple[tuple[Part, str, str], ...], ...] = (
    (("train", "train_images", "train_labels"), ("validation", "validation_images", "validation_labels"),
     ("validation", "val_images", "val_labels"), ("validation", "valid_images", "valid_labels"),
     ("test", "test_images", "test_labels")),
    (("train", "x_train", "y_train"), ("validation", "x_val", "y_val"), ("validation", "x_valid", "y_valid"),
     ("validation", "x_validation", "y_validation"), ("test", "x_test", "y_test")),
    ((None, "images", "labels"),),
    ((None, "x", "y"),),
    (("train", "X_train", "y_train"), ("validation", "X_val", "y_val"), ("validation", "X_valid", "y_valid"),
     ("test", "X_test", "y_test")),
    ((None, "X", "y"),),
)  # fmt: skip


@dataclass(frozen=True)
class Array:
    """A member of the .npz file whose rows are read one after another."""

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))

    def rows(self, start: int = 0) -> Iterator[np.ndarray]:
        """Stream the rows from `start` on."""
        with _reading(self.path, self.name) as stream:
            _read_header(stream)
            # Skipped in steps, since Python up to 3.12 reads the skipped bytes and keeps a step of them in memory.
            for place in range(0, start * self.row_bytes, _STEP):
                stream.seek(min(_STEP, start * self.row_bytes - place), os.SEEK_CUR)
            for index in range(start, self.shape[0]):
                data = stream.read(self.row_bytes)
                if len(data) < self.row_bytes:
                    raise EOFError(f"{self.name} ends in row {index} of {self.shape[0]}")
                yield np.frombuffer(data, self.dtype).reshape(self.shape[1:])

    def chunks(self) -> Iterator[np.ndarray]:
        """Stream all rows, many at a time."""
        with _reading(self.path, self.name) as stream:
            _read_header(stream)
            for start in range(0, self.shape[0], _CHUNK_ROWS):
                size = min(_CHUNK_ROWS, self.shape[0] - start) * self.row_bytes
                data = stream.read(size)
                if len(data) < size:
                    raise EOFError(f"{self.name} is cut short")
                yield np.frombuffer(data, self.dtype)


@dataclass(frozen=True)
class NpzPiece(Piece):
    """Some of the sampled rows of one part.

    Attributes:
        positions: Positions in the sample.
        relabel: The label of each label in the file.
        first: The label of the first class in the file.
    """

    part: Part
    images: Array
    labels: Array
    sample: EvenSample
    positions: range
    relabel: tuple[int, ...]
    first: int = 0

    def read(self) -> Iterator[RawExample]:
        wanted = iter([self.sample.row(position) for position in self.positions])
        first = next(wanted)
        row: int | None = first
        for index, (image, label) in enumerate(
            zip(self.images.rows(first), self.labels.rows(first), strict=True), first
        ):
            if row is None:
                return
            if index < row:
                continue
            pixels = to_pixels(image, f"{self.images.path}: row {index} of {self.images.name}")
            yield RawExample(
                f"{self.images.name}[{index}]", self.part, self.relabel[int(label.item()) - self.first], pixels
            )
            row = next(wanted, None)


def open_npz(config: DataConfig, limit: int | None = None) -> ExampleSource:
    """Open a .npz file.

    Raises:
        DataError: The file is not an .npz file, is truncated, or its arrays are not matching images and labels.
    """
    arrays = list_arrays(config.path)
    layout = _find_layout(arrays)
    if layout is None:
        raise DataError(
            f"{config.path} must hold train_images and train_labels, or x_train and y_train, or images and labels; "
            f"got {', '.join(sorted(arrays)) or 'no array'}. Save it with those names."
        )
    present = [line for line in layout if line[1] in arrays or line[2] in arrays]
    shapes: dict[str, tuple[int, int, int]] = {}
    counts: dict[Part, int] = {}
    lowest, highest = 1 << 62, 0
    for part, images, labels in present:
        if part in counts:
            raise DataError(f"{config.path} must hold one array of {part} images; got {images} as well. Remove one.")
        for name in (images, labels):
            if name not in arrays:
                raise DataError(
                    f"{config.path} must hold {name} beside {images if name == labels else labels}; got none."
                )
        shapes[images] = image_shape(arrays[images])
        low, high = _check_labels(arrays[labels], arrays[images], config.label_offset or 0)
        lowest, highest = min(lowest, low), max(highest, high)
        check_most_classes(highest, config.path)
        counts[part] = len(EvenSample(arrays[images].shape[0], limit))
    if len(set(shapes.values())) > 1:
        raise DataError(f"the image arrays of {config.path} must have one shape; got {shapes}. Save them alike.")
    if "class_names" not in arrays and config.classes is None:
        check_first_label(lowest, config, config.path)
    classes, relabel = _classes(config, arrays, highest - (config.label_offset or 0))
    pieces = []
    for part, images, labels in present:
        sample = EvenSample(arrays[images].shape[0], limit)
        for positions in sample.ranges(max(1, PIECE_BYTES // arrays[images].row_bytes), MOST_PIECES):
            piece = NpzPiece(part, arrays[images], arrays[labels], sample, positions, relabel, config.label_offset or 0)
            pieces.append(piece)
    named = "class_names" in arrays or config.classes is not None
    notes = _unused(config.path, arrays, {name for line in present for name in line[1:]})
    return ExampleSource(classes, counts, next(iter(shapes.values())), pieces, named=named, notes=notes)


def _find_layout(arrays: Collection[str]) -> tuple[tuple[Part, str, str], ...] | None:
    """Find the naming scheme of the training images, otherwise that of the test images, if there are no others."""
    for end in (0, -1):
        for lines in LAYOUTS:
            if {lines[end][1], lines[end][2]} <= set(arrays):
                return lines
    return None


def _unused(path: str, arrays: dict[str, Array], used: set[str]) -> tuple[str, ...]:
    """Name the arrays that no part is made of."""
    others = [f"{name} {list(arrays[name].shape)}" for name in sorted(set(arrays) - used - {"class_names"})]
    return (f"{path} holds arrays that are not used: {', '.join(others)}",) if others else ()


def npz_digest(config: DataConfig) -> str:
    """Compute the digest of the file."""
    return file_sha256(config.path)


def list_arrays(path: str) -> dict[str, Array]:
    """Return the arrays of a file by name.

    Raises:
        DataError: The file is not an .npz file, or an array is not stored in C order.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {one.filename: one.file_size for one in archive.infolist() if one.filename.endswith(".npy")}
    except BROKEN_ARCHIVE as error:
        raise DataError(f"{path} must be a .npz file; got: {error}. Write it anew with numpy.savez.") from error
    arrays = {}
    sizes = {member.removesuffix(".npy"): size for member, size in members.items()}
    for name in sizes:
        with _reading(path, name) as stream:
            shape, fortran, dtype = _read_header(stream)
        if fortran and len(shape) > 1:
            raise DataError(f"{path}: {name} must be stored in C order; got Fortran order. Save "
                            "numpy.ascontiguousarray of it.")  # fmt: skip
        arrays[name] = Array(path, name, shape, dtype)
        _check_declared(arrays[name], sizes[name])
    return arrays


def _check_declared(array: Array, size: int) -> None:
    """Refuse an array whose header declares more than the member holds, or rows too large to keep in memory."""
    if array.dtype.hasobject:
        return  # refused where it is read
    row = array.dtype.itemsize * math.prod(array.shape[1:])
    names = array.name == "class_names" and size > _MOST_NAME_BYTES
    if row * math.prod(array.shape[:1]) > size or row > _MOST_ROW_BYTES or names:
        raise DataError(
            f"{array.path}: {array.name} must declare the array that it holds, of rows of at most "
            f"{_MOST_ROW_BYTES:,} bytes; got shape {list(array.shape)} of {array.dtype} in {size:,} bytes. "
            "Write the file anew."
        )


@contextmanager
def _reading(path: str, name: str) -> Iterator[IO[bytes]]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            yield stream
    except BROKEN_ARCHIVE as error:
        raise DataError(f"{path}: {name} must be a whole array; got: {error}. Write the file anew.") from error


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"array format {version[0]}.{version[1]}")


def image_shape(images: Array) -> tuple[int, int, int]:
    """Return height, width and channels of an array of images; raise DataError if it is not one."""
    what = f"{images.path}: {images.name}"
    if images.dtype.kind not in "ui":
        advice = (
            "Save numpy.stack of images of one size."
            if images.dtype.hasobject
            else "Save x.round().astype('uint8'), or (255 * x).round().astype('uint8') if its pixels are 0..1."
        )
        raise DataError(f"{what} must hold pixels 0..255 as uint8; got {images.dtype}. {advice}")
    shape = images.shape
    if len(shape) == 3:
        shape = (*shape, 1)
    if len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape:
        hint = " Save it as an array of images."
        if 0 in shape:
            hint = " Leave the empty array out."
        elif len(shape) == 4:
            first = shape[1] in (1, 3)
            hint = " Save x.transpose(0, 2, 3, 1), channels last." if first else " Save x[..., :3], colours alone."
        raise DataError(
            f"{what} must have the shape [n, height, width] or [n, height, width, 1 or 3]; "
            f"got {list(images.shape)}.{hint}"
        )
    return shape[1], shape[2], shape[3]


def _check_labels(labels: Array, images: Array, first: int = 0) -> tuple[int, int]:
    """Check an array of labels and return the lowest and the highest label."""
    what = f"{labels.path}: {labels.name}"
    count = images.shape[0]
    if labels.shape not in ((count,), (count, 1)):
        hint = " Save one label for each image."
        if len(labels.shape) == 2 and labels.shape[1] > 1:
            hint = " Save the argmax of one-hot labels. Images of several classes at once are not supported."
        raise DataError(f"{what} must have the shape [{count}], as {images.name}; got {list(labels.shape)}.{hint}")
    if labels.dtype.kind not in "ui":
        advice = (
            "class_names, labels = numpy.unique(labels, return_inverse=True)"
            if labels.dtype.kind in "USO"
            else ("labels.astype('int64')")
        )
        raise DataError(f"{what} must hold integers; got {labels.dtype}. Save {advice}.")
    low, high = 1 << 62, 0
    for chunk in labels.chunks():
        low, high = min(low, int(chunk.min())), max(high, int(chunk.max()))
    if low < first:
        raise DataError(f"{what} must hold indices of classes, from {first}; got {low}. Number the classes anew.")
    return low, high


def _classes(config: DataConfig, arrays: dict[str, Array], highest: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the class names in label order, and the label of each label in the file."""
    if "class_names" in arrays:
        if arrays["class_names"].dtype.hasobject:
            raise DataError(
                f"{config.path}: class_names must hold text; got objects. Save numpy.array(names, dtype=str)."
            )
        with _reading(config.path, "class_names") as stream:
            names = np.lib.format.read_array(stream, allow_pickle=False)
        found = [name.decode() if isinstance(name, bytes) else str(name) for name in names.ravel()]
    else:
        # The file has no class names, so data.classes gives the names instead of an order.
        found = config.classes or [str(label + (config.label_offset or 0)) for label in range(highest + 1)]
    classes = order_classes(found, config.classes, config.path)
    if highest >= len(classes):
        raise DataError(
            f"labels in {config.path} must be below {len(classes)}, the number of class names; got {highest}. "
            "Name every class in class_names or data.classes."
        )
    return classes, tuple(classes.index(name) for name in found)


def to_pixels(image: np.ndarray, where: str) -> np.ndarray:
    """Convert a row to [height, width, channels] uint8; raise DataError if its values are not pixels."""
    if image.dtype != np.uint8:
        if image.min() < 0 or image.max() > 255:
            raise DataError(f"{where} must hold pixels 0..255; got {image.min()} to {image.max()}. Rescale them.")
        image = image.astype(np.uint8)
    return image[:, :, np.newaxis] if image.ndim == 2 else image
