# SPDX-License-Identifier: Apache-2.0
"""Hands files over between a step and its workers: in folders that both see, or through an object store.

A reference is what a worker needs to find a file. Where all machines share a file system it is the file's path, and
nothing is copied. With `--exchange=s3://BUCKET/PATH` it is an address there: the step uploads what its workers read, a
worker copies it to its own disk, uploads what it wrote, and the step downloads that in the end. The workers then need
nothing in common but the store. An upload is there as a whole or not at all, as a renamed file is.
"""

import os
import posixpath
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions

from learn2compress.schemas.files.whole import remove_asides, written_whole
from learn2compress.storage import object_store
from learn2compress.storage.addresses import is_remote
from learn2compress.storage.location import open_location

_lock = threading.Lock()
_cache: dict[str, str] = {}
_copies: dict[str, str] = {}  # reference of each copy by its path, for messages
_cache_folder: list[tempfile.TemporaryDirectory[str]] = []


class ExchangeOptions(PipelineOptions):
    """The Beam argument that names the exchange."""

    @classmethod
    def _add_argparse_args(cls, parser: object) -> None:
        parser.add_argument("--exchange", default=None, help="address through which workers get and leave files")  # type: ignore[attr-defined]


class Exchange:
    """The files of one job of a step.

    Args:
        place: Address in an object store, or None if the workers share the file system of the step.
    """

    def __init__(self, place: str | None) -> None:
        self.place = place.rstrip("/") if place else None
        self._inputs = f"{self.place}/{uuid.uuid4().hex}"
        self._offered: dict[str, str] = {}
        self._temporary: list[str] = []

    @classmethod
    def of(cls, options: PipelineOptions) -> "Exchange":
        """Opens the exchange that a pipeline's arguments name."""
        return cls(options.view_as(ExchangeOptions).exchange)

    def __enter__(self) -> "Exchange":
        return self

    def __exit__(self, *_: object) -> None:
        for reference in self._temporary:
            object_store.remove(reference)

    def offer(self, path: str | Path) -> str:
        """Lets workers read a file or a folder.

        Returns:
            Its reference.
        """
        if self.place is None or is_remote(str(path)):
            return str(path)
        known = self._offered.get(str(path))
        if known is None:
            if not self._offered:
                self._temporary.append(self._inputs)
            known = self._offered[str(path)] = f"{self._inputs}/{len(self._offered):06}/{Path(path).name}"
            object_store.upload(Path(path), known)
        return known

    def folder(self, path: str | Path, key: str | None = None) -> str:
        """Names the folder in which workers leave their files.

        Args:
            path: The folder of the step.
            key: Name that stays the same for the same work, so that a later attempt finds what this one leaves; None
                if nothing is to be kept.

        Returns:
            Its reference.
        """
        if self.place is None:
            return str(path)
        if key is not None:
            return f"{self.place}/{key}"
        self._temporary.append(f"{self.place}/{uuid.uuid4().hex}")
        return self._temporary[-1]

    def take(self, reference: str, path: str | Path) -> None:
        """Moves what the workers left to the folder of the step, without what interrupted attempts left."""
        if not is_remote(reference):
            remove_asides(Path(path))
            return
        prefix = f"{reference}/"
        for address in object_store.find(reference):
            target = Path(path, address.removeprefix(prefix))
            target.parent.mkdir(parents=True, exist_ok=True)
            object_store.download(address, target.parent)
        object_store.remove(reference)

    def in_words_of_the_step(self, text: str) -> str:
        """Writes the paths of the step for their references in a worker's message."""
        for path, reference in self._offered.items():
            text = text.replace(reference, path)
        return text


def fetch(reference: str) -> str:
    """Provides a file or a folder on this machine, copied once for each process.

    Returns:
        Its path.
    """
    if not is_remote(reference):
        return reference
    with _lock:
        if reference not in _cache:
            if not _cache_folder:
                _cache_folder.append(tempfile.TemporaryDirectory(prefix="learn2compress-"))
            folder = Path(_cache_folder[0].name, f"{len(_cache):06}")
            _cache[reference] = str(object_store.download(reference, folder))
            _copies[_cache[reference]] = reference
        return _cache[reference]


@contextmanager
def fetched(reference: str) -> Iterator[str]:
    """Lends a file on this machine; a copy is removed afterwards."""
    if not is_remote(reference):
        yield reference
        return
    with tempfile.TemporaryDirectory(prefix="learn2compress-") as folder:
        path = str(object_store.download(reference, Path(folder)))
        _copies[path] = reference
        yield path


def in_references(text: str) -> str:
    """Writes the references of copies for their paths in a message."""
    for path, reference in list(_copies.items()):
        text = text.replace(path, reference)
    return text


@contextmanager
def written(reference: str) -> Iterator[Path]:
    """Lends a new path, and leaves what was written there at the reference, as a whole or not at all."""
    if not is_remote(reference):
        path = Path(reference)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as aside:
            yield aside
        return
    with tempfile.TemporaryDirectory(prefix="learn2compress-") as folder:
        path = Path(folder, posixpath.basename(reference))
        yield path
        object_store.put(path, reference)


@contextmanager
def target(reference: str) -> Iterator[str]:
    """Lends a path for a file that is written as a whole by the block; a copy is uploaded afterwards."""
    if not is_remote(reference):
        yield reference
        return
    with written(reference) as path:
        yield str(path)


def write(reference: str, content: bytes) -> None:
    """Leaves a small file at a reference."""
    with written(reference) as path:
        path.write_bytes(content)


def read(reference: str) -> bytes | None:
    """Reads a small file; None if there is none."""
    if is_remote(reference):
        return object_store.read(reference) if object_store.exists(reference) else None
    path = Path(reference)
    return path.read_bytes() if path.exists() else None


def remove(reference: str) -> None:
    """Removes a file, or a folder with all in it, if it is there."""
    if is_remote(reference):
        object_store.remove(reference)
    elif Path(reference).is_dir():
        shutil.rmtree(reference)
    else:
        Path(reference).unlink(missing_ok=True)


def names(reference: str) -> list[str]:
    """Lists the names of the files in a folder, sorted; those that are being written are left out."""
    if is_remote(reference):
        return sorted(posixpath.basename(address) for address in object_store.find(reference))
    try:
        return sorted(name for name in os.listdir(reference) if not name.startswith("."))
    except FileNotFoundError:
        return []


def read_ranges(reference: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Reads parts of a file.

    Args:
        reference: The file.
        ranges: Offset and length of each part.
    """
    location, name = os.path.split(reference)
    return open_location(location).read_ranges(name, ranges)
