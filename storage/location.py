# SPDX-License-Identifier: Apache-2.0
"""Where a run's outputs lie: a folder, or a bucket by an fsspec URL, read and written in the same few ways.

A folder is read without fsspec, whose import costs more than most queries. A bucket is the only code that knows fsspec.
Its credentials and address come from where the store's own tools look for them: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL; Google's application default, and STORAGE_EMULATOR_HOST. Paths are relative
to the location, with `/` between their parts.
"""

import bisect
import errno
import hashlib
import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from learn2compress.schemas.digests import CHUNK_BYTES
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.provenance import FOLDER, SUFFIX
from learn2compress.storage.addresses import fsspec_url

_READ_AT_ONCE = 200
_GAP_BYTES = 64 << 10  # between two parts of a file that are read in one request
_ENTITY_FIELDS = ("ETag", "etag", "md5Hash", "crc32c", "LastModified", "mtime", "created")
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


class Stored(NamedTuple):
    """A file in a store, as a listing shows it.

    Attributes:
        path: Relative to the location; empty for the location itself.
        bytes: Its size.
        entity: Text that changes when the content does: an entity tag, a checksum or a time.
    """

    path: str
    bytes: int
    entity: str


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

    def is_special(self, path: str) -> bool:
        """Whether a device, a pipe or a socket lies there, which is not read."""
        return os.path.exists(self.join(path)) and not (self.is_file(path) or os.path.isdir(self.join(path)))

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return os.path.getsize(self.join(path))

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading; what is none, such as a device or a pipe, would block or never end.

        Raises:
            OSError: It is no regular file, or cannot be read.
        """
        full = self.join(path)
        if not stat.S_ISREG(os.stat(full).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", full)
        return open(full, "rb")

    def read(self, path: str) -> bytes:
        """Read a file as a whole."""
        with self.open(path) as stream:
            return stream.read()

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read parts of a file, each given by its offset and its length."""
        with self.open(path) as stream:
            return [stream.read(length) for offset, length in ranges if stream.seek(offset) == offset]

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
        """The SHA-256 of the record that something else stands for here; None: what lies here is the record itself."""
        return None

    @contextmanager
    def as_local(self, path: str) -> Iterator[Path]:
        """Provide a file under a path on this machine."""
        yield Path(self.join(path))


class Bucket(Location):
    """A place that fsspec reaches: memory://, s3://, gs://, minio:// …"""

    def __init__(self, url: str) -> None:
        import fsspec

        address = fsspec_url(url).partition("?")[0]
        try:
            self._fs, self._path = fsspec.core.url_to_fs(address)
        except (ValueError, ImportError) as error:
            raise LineageError(f"{url} must be a folder or a URL that fsspec knows; {error}.") from error
        self._url = address.rstrip("/")
        self._path = self._path.rstrip("/")
        # A listing that was kept from before a write would hide what was written.
        self._fs.invalidate_cache()

    def __str__(self) -> str:
        return self._url

    @property
    def local(self) -> Path | None:
        return None

    def join(self, path: str) -> str:
        if is_absolute(path) or not path:
            return path or self._url
        scheme, _, rest = self._url.partition("://")
        return f"{scheme}://{posixpath.normpath(posixpath.join(rest, path))}"

    def relative(self, uri: str) -> str:
        return uri[len(self._url) + 1 :] if uri.startswith(self._url + "/") else uri

    def parent(self) -> Location:
        scheme, _, rest = self._url.partition("://")
        return Bucket(f"{scheme}://{posixpath.dirname(rest)}")

    def below(self, path: str) -> Location:
        return Bucket(self.join(path)) if path else self

    def exists(self, path: str = "") -> bool:
        return bool(self._fs.exists(self._inside(path)))

    def is_file(self, path: str) -> bool:
        return bool(self._fs.isfile(self._inside(path)))

    def size(self, path: str) -> int:
        return int(self._fs.size(self._inside(path)))

    def open(self, path: str) -> IO[bytes]:
        return self._fs.open(self._inside(path), "rb")

    def read(self, path: str) -> bytes:
        return bytes(self._fs.cat_file(self._inside(path)))

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        # Requests at once, and neighbours in one: a request costs more than the bytes between them.
        inside, spans = self._inside(path), _spans(ranges)
        parts = self._fs.cat_ranges(
            [inside] * len(spans), [one.start for one in spans], [one.stop for one in spans], on_error="raise"
        )
        starts = [one.start for one in spans]
        found = []
        for offset, length in ranges:
            number = bisect.bisect_right(starts, offset) - 1
            first = offset - starts[number]
            found.append(bytes(parts[number][first : first + length]))
        return found

    def read_many(self, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for start in range(0, len(paths), _READ_AT_ONCE):
            inside = {self._inside(path): path for path in paths[start : start + _READ_AT_ONCE]}
            contents = self._fs.cat(list(inside), recursive=False) if len(inside) > 1 else None
            for name, path in inside.items():
                yield path, bytes(contents[name]) if contents is not None else self.read(path)

    def write(self, path: str, content: bytes) -> None:
        inside = self._inside(path)
        self._fs.makedirs(posixpath.dirname(inside), exist_ok=True)
        self._fs.pipe_file(inside, content)

    def remove(self, path: str) -> None:
        """Remove a file."""
        self._fs.rm_file(self._inside(path))

    def remove_all(self) -> None:
        """Remove all files at and below this location; none is no error."""
        if self._fs.exists(self._path):
            self._fs.rm(self._path, recursive=True)

    def put(self, source: Path, path: str = "") -> None:
        """Copy a file of this machine there."""
        inside = self._inside(path)
        self._fs.makedirs(posixpath.dirname(inside), exist_ok=True)
        self._fs.put_file(str(source), inside)

    def get(self, path: str, target: Path) -> None:
        """Copy a file to this machine."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._fs.get_file(self._inside(path), str(target))

    def files(self, path: str = "") -> list[str]:
        root = self._inside(path).rstrip("/")
        if not self._fs.exists(root):
            return []
        return sorted(name[len(root) + 1 :] for name in self._fs.find(root) if name.startswith(root + "/"))

    def forget_listings(self) -> None:
        """Query the store anew for what lies there, where fsspec would take an earlier answer."""
        self._fs.invalidate_cache()

    def stored(self) -> list[Stored]:
        """List the files at and below this location, sorted by path."""
        if self._fs.isfile(self._path):
            return [_stored("", self._fs.info(self._path))]
        found = self._fs.find(self._path, detail=True)
        return sorted(_stored(name[len(self._path) + 1 :], info) for name, info in found.items())

    def match(self) -> list[str]:
        """List in full the addresses, folders too, that this location's own address matches as a pattern."""
        scheme = self._url.partition("://")[0]
        return sorted(f"{scheme}://{name.rstrip('/')}" for name in self._fs.glob(self._path))

    def records(self) -> list[Found]:
        if not self._fs.exists(self._path):
            return []
        return [
            Found(*one)
            for one in self.stored()
            if one.path.endswith(SUFFIX) and posixpath.basename(posixpath.dirname(f"{self._path}/{one.path}")) == FOLDER
        ]

    @contextmanager
    def as_local(self, path: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, posixpath.basename(path))
            with self.open(path) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK_BYTES)
            yield target

    def _inside(self, path: str) -> str:
        return self._fs._strip_protocol(self.join(path))


def open_location(place: str | Path) -> Location:
    """Open a folder or an fsspec URL.

    Raises:
        LineageError: The URL is of a kind that is not known, or needs a package that is not installed.
    """
    text = str(place)
    if "://" in text and not text.startswith("file://"):
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


def _spans(ranges: Sequence[tuple[int, int]]) -> list[range]:
    """Joins parts of a file, each an offset and a length, that lie close together; sorted."""
    spans: list[range] = []
    for offset, length in sorted(ranges):
        if spans and offset <= spans[-1].stop + _GAP_BYTES:
            spans[-1] = range(spans[-1].start, max(spans[-1].stop, offset + length))
        else:
            spans.append(range(offset, offset + length))
    return spans


def _stored(path: str, info: dict[str, Any]) -> Stored:
    entity = next((str(info[key]) for key in _ENTITY_FIELDS if info.get(key)), "")
    return Stored(path, int(info["size"]), entity)
