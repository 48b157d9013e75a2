# SPDX-License-Identifier: Apache-2.0
"""A place in an object store, or in whatever else fsspec reaches. Only this module knows fsspec.

Credentials and address come from where the store's own tools look for them: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
and AWS_ENDPOINT_URL; Google's application default, and STORAGE_EMULATOR_HOST.
"""

import posixpath
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from learn2compress.schemas.digests import CHUNK_BYTES
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.provenance import FOLDER, SUFFIX
from learn2compress.storage.addresses import fsspec_url
from learn2compress.storage.location import Found, Location, is_absolute

_READ_AT_ONCE = 200
_ENTITY_FIELDS = ("ETag", "etag", "md5Hash", "crc32c", "LastModified", "mtime", "created")


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


def _stored(path: str, info: dict[str, Any]) -> Stored:
    entity = next((str(info[key]) for key in _ENTITY_FIELDS if info.get(key)), "")
    return Stored(path, int(info["size"]), entity)
