# SPDX-License-Identifier: Apache-2.0
"""Files in an object store, through fsspec: s3://, gs://, and minio:// as the S3 that it is.

Credentials and address come from where the store's own tools look for them: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
and AWS_ENDPOINT_URL, or Google's application default.
"""

import hashlib
import json
import posixpath
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from learn2compress.schemas.errors import ClusterError
from learn2compress.storage.addresses import is_remote

_ENTITY = ("ETag", "etag", "md5Hash", "crc32c", "mtime", "created")


def download(url: str, folder: Path) -> Path:
    """Copy a file, all below a folder, or all that a pattern matches.

    Args:
        url: Where it is.
        folder: Where to put it; made if it is not there.

    Returns:
        The local path: of the same name, or pattern, as in the store.

    Raises:
        ClusterError: The store refuses, cannot be reached, or has nothing there.
    """
    with answers(url, "be readable"):
        store, path = _open(url)
        store.invalidate_cache()
        target = folder / posixpath.basename(path)
        folder.mkdir(parents=True, exist_ok=True)
        if any(sign in path for sign in "*?["):
            found = store.glob(path)
            for name in found:
                store.get_file(name, str(folder / posixpath.basename(name)))
        elif store.isfile(path):
            found = [path]
            store.get_file(path, str(target))
        else:
            found = store.find(path)
            for name in found:
                local = target / name[len(path) + 1 :]
                local.parent.mkdir(parents=True, exist_ok=True)
                store.get_file(name, str(local))
    if not found:
        raise ClusterError(f"{url} must exist; there is nothing. Check the address.")
    return target


def upload(source: Path, url: str) -> None:
    """Copy a file, or all below a folder, unless files of the same sizes lie there already.

    Raises:
        ClusterError: The store refuses or cannot be reached.
    """
    with answers(url, "be writable"):
        store, path = _open(url)
        store.invalidate_cache()
        files = [source] if source.is_file() else sorted(file for file in source.rglob("*") if file.is_file())
        for file in files:
            target = path if source.is_file() else f"{path}/{file.relative_to(source).as_posix()}"
            if not (store.exists(target) and store.size(target) == file.stat().st_size):
                store.makedirs(posixpath.dirname(target), exist_ok=True)
                store.put_file(str(file), target)


def fingerprint(url: str) -> str:
    """Compute a text that changes when what lies there does, from the store's listing and not from the content.

    Raises:
        ClusterError: The store refuses, cannot be reached, or has nothing there.
    """
    with answers(url, "be readable"):
        store, path = _open(url)
        store.invalidate_cache()
        if any(sign in path for sign in "*?["):
            infos = [store.info(name) for name in sorted(store.glob(path))]
        else:
            infos = [store.info(path)] if store.isfile(path) else list(store.find(path, detail=True).values())
        listing = sorted([info["name"], info["size"], _entity(info)] for info in infos)
    if not listing:
        raise ClusterError(f"{url} must exist; there is nothing. Check the address.")
    return "listing-" + hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def exists(url: str) -> bool:
    """Whether something lies there.

    Raises:
        ClusterError: The store refuses or cannot be reached.
    """
    with answers(url, "be readable"):
        store, path = _open(url)
        store.invalidate_cache()
        return bool(store.exists(path))


def find(url: str) -> list[str]:
    """List the files below an address, in full.

    Raises:
        ClusterError: The store refuses or cannot be reached.
    """
    with answers(url, "be readable"):
        store, path = _open(url)
        store.invalidate_cache()
        return sorted(url.rstrip("/") + name[len(path) :] for name in store.find(path))


def match(pattern: str) -> list[str]:
    """List the addresses that a pattern matches, folders too.

    Raises:
        ClusterError: The store refuses or cannot be reached.
    """
    scheme = pattern.partition("://")[0]
    with answers(pattern, "be readable"):
        store, path = _open(pattern)
        store.invalidate_cache()
        return sorted(f"{scheme}://{name.rstrip('/')}" for name in store.glob(path))


def read(url: str) -> bytes:
    """Read a file as a whole.

    Raises:
        ClusterError: The store refuses, cannot be reached, or has nothing there.
    """
    with answers(url, "be readable"):
        store, path = _open(url)
        return bytes(store.cat_file(path))


def check_access(url: str) -> None:
    """Write a small file below an address, read it back and remove it.

    Raises:
        ClusterError: One of the three is refused.
    """
    content = uuid.uuid4().bytes
    with answers(url, "be writable and readable"):
        store, path = _open(url)
        store.invalidate_cache()
        probe = f"{path}/.learn2compress-{uuid.uuid4().hex}"
        store.makedirs(path, exist_ok=True)
        store.pipe_file(probe, content)
        found = store.cat_file(probe)
        store.rm_file(probe)
    if found != content:
        raise ClusterError(f"{url} must give back what was written; it gave something else. Check the store.")


def fsspec_url(url: str) -> str:
    """An address as fsspec knows it: minio:// is S3 by another name."""
    return "s3://" + url.removeprefix("minio://") if url.startswith("minio://") else url


def _open(url: str) -> tuple[Any, str]:
    if not is_remote(url):
        raise ClusterError(f"{url} must be an s3://, gs:// or minio:// address; it is none. Give one.")
    store, path = fsspec.core.url_to_fs(fsspec_url(url).partition("?")[0])
    return store, path.rstrip("/")


def _entity(info: dict[str, Any]) -> str:
    return next((str(info[key]) for key in _ENTITY if info.get(key)), str(info.get("LastModified", "")))


@contextmanager
def answers(url: str, rule: str) -> Iterator[None]:
    """Names the remedy for each way in which a store fails."""
    try:
        yield
    except ClusterError:
        raise
    except ImportError as error:
        raise ClusterError(f"{url} must {rule}; {error}. Install the package.") from error
    except PermissionError as error:
        raise ClusterError(
            f"{url} must {rule}; the object store refuses: {_line(error)}. Check the keys and what they allow."
        ) from error
    except FileNotFoundError as error:
        raise ClusterError(f"{url} must {rule}; {_line(error)}. Check the address and the bucket.") from error
    except Exception as error:
        # Each store's client has exceptions of its own, from a missing key to a host that does not answer.
        raise ClusterError(
            f"{url} must {rule}; {type(error).__name__}: {_line(error)}. "
            "Check AWS_ENDPOINT_URL, the network and the keys."
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
