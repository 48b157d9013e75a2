# SPDX-License-Identifier: Apache-2.0
"""Where a run's outputs lie: a folder, or a bucket by an fsspec URL, read and written in the same few ways.

A folder is read without fsspec, whose import costs more than most queries; a bucket is in bucket.py. Paths are relative
to the location, with `/` between their parts.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from learn2compress.schemas.digests import CHUNK_BYTES
from learn2compress.schemas.provenance import FOLDER, SUFFIX

_SKIPPED = {".system", ".git", ".venv", "__pycache__", "node_modules"}


class Found(NamedTuple):
    """A record file, as a listing shows it.

    Attributes:
        path: Relative to the location.
        bytes: Its size.
        mark: Changes when the file does: its time, or an entity tag.
    """

    path: str
    bytes: int
    mark: str


class Location:
    """A folder on this machine."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).absolute()

    def __str__(self) -> str:
        return str(self._root)

    @property
    def local(self) -> Path | None:
        """The folder, if it is one on this machine."""
        return self._root

    def join(self, path: str) -> str:
        """Write a path of this location in full; what is absolute or a URL stays."""
        return path if is_absolute(path) else str(self._root / path)

    def relative(self, uri: str) -> str:
        """Write a path or URL relative to this location, if it is inside; else as it is."""
        path = uri.removeprefix("file://")
        if not path.startswith("/"):
            return uri
        for root in (self._root, Path(os.path.realpath(self._root))):
            for candidate in (path, os.path.realpath(path)):
                if Path(candidate).is_relative_to(root):
                    return Path(candidate).relative_to(root).as_posix()
        return uri

    def parent(self) -> "Location":
        """The folder above."""
        return Location(self._root.parent)

    def below(self, path: str) -> "Location":
        """A folder in it."""
        return Location(self._root / path)

    def exists(self, path: str = "") -> bool:
        """Whether something lies there."""
        return os.path.exists(self.join(path))

    def is_file(self, path: str) -> bool:
        """Whether a file lies there."""
        return os.path.isfile(self.join(path))

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return os.path.getsize(self.join(path))

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading."""
        return open(self.join(path), "rb")

    def read(self, path: str) -> bytes:
        """Read a file as a whole."""
        with self.open(path) as stream:
            return stream.read()

    def read_many(self, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Read files as a whole, one after another, or as many at a time as a bucket allows."""
        for path in paths:
            yield path, self.read(path)

    def write(self, path: str, content: bytes) -> None:
        """Write a file as a whole, or, when interrupted, not at all."""
        target = Path(self.join(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise

    def files(self, path: str = "") -> list[str]:
        """List the files below a folder, relative to it, sorted."""
        root = self.join(path)
        names = []
        for folder, subfolders, files in os.walk(root, followlinks=False):
            subfolders.sort()
            names += [Path(folder, name).relative_to(root).as_posix() for name in files]
        return sorted(names)

    def sha256(self, path: str) -> str:
        """Compute a file's SHA-256, in pieces."""
        digest = hashlib.sha256()
        with self.open(path) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def records(self) -> list[Found]:
        """Find the provenance records at or below this location.

        A folder that has a `provenance` folder holds a node's artifacts, in which no further records are looked for:
        that keeps the search quick where there are many.
        """
        return list(_walk(str(self._root), ""))

    def stands_for(self, path: str) -> str | None:  # noqa: ARG002
        """The SHA-256 of the record in whose place something else is told here; None: what lies here is the record."""
        return None

    @contextmanager
    def as_local(self, path: str) -> Iterator[Path]:
        """Lend a file under a path on this machine."""
        yield Path(self.join(path))


def open_location(place: str | Path) -> Location:
    """Open a folder or an fsspec URL.

    Raises:
        LineageError: The URL is of a kind that is not known, or needs a package that is not installed.
    """
    text = str(place)
    if "://" in text and not text.startswith("file://"):
        from learn2compress.storage.bucket import Bucket

        return Bucket(text)
    return Location(text.removeprefix("file://"))


def is_absolute(uri: str) -> bool:
    """Whether a URI stands for itself, whatever the pipeline root."""
    return uri.startswith("/") or "://" in uri


def _walk(root: str, folder: str) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(os.path.join(root, folder)), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name not in _SKIPPED]
    if os.path.basename(folder or root) == FOLDER:
        yield from _record_files(entries, folder)
        return
    inner = [entry for entry in folders if entry.name == FOLDER]
    for entry in inner or folders:
        yield from _walk(root, f"{folder}/{entry.name}" if folder else entry.name)


def _record_files(entries: list[os.DirEntry[str]], folder: str) -> Iterator[Found]:
    for entry in entries:
        if entry.name.endswith(SUFFIX) and entry.is_file():
            about = entry.stat()
            path = f"{folder}/{entry.name}" if folder else entry.name
            yield Found(path, about.st_size, str(about.st_mtime_ns))
