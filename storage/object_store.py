# SPDX-License-Identifier: Apache-2.0
"""Files in an object store by their full address, s3://, gs:// or minio://, each failure with its remedy."""

import hashlib
import json
import posixpath
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from learn2compress.schemas.errors import ClusterError, LineageError, UnsafePathError
from learn2compress.schemas.files.inside import path_inside
from learn2compress.storage.addresses import is_remote
from learn2compress.storage.location import Bucket, Stored

_PATTERN_SIGNS = "*?["


def download(url: str, folder: Path) -> Path:
    """Copy a file, all below a folder, or all that a pattern matches.

    Args:
        url: Where it is.
        folder: Where to put it; made if it is not there.

    Returns:
        The local path: of the same name, or pattern, as in the store.

    Raises:
        ClusterError: The store refuses, cannot be reached, or has nothing there.
        UnsafePathError: The name of a file in it leads out of the folder.
    """
    with answers(url, "be readable"):
        target = path_inside(folder, posixpath.basename(_plain(url)))
        found = _list(url)
        for address, one in found:
            if _is_pattern(url):
                Bucket(address).get("", path_inside(folder, posixpath.basename(address)))
            else:
                Bucket(address).get("", path_inside(target, one.path) if one.path else target)
    if not found:
        raise ClusterError(f"{url} must exist; there is nothing. Check the address.")
    return target


def upload(source: Path, url: str, on_start: Callable[[], None] = lambda: None) -> None:
    """Copy a file, or all below a folder, unless files of the same sizes lie there already.

    Args:
        source: The file or folder on this machine.
        url: Where to put it.
        on_start: Called before the first file is copied, if any is.

    Raises:
        ClusterError: The store refuses or cannot be reached.
    """
    with answers(url, "be writable"):
        place = _open(url)
        files = [source] if source.is_file() else sorted(file for file in source.rglob("*") if file.is_file())
        there = {one.path: one.bytes for one in place.stored()} if place.exists() else {}
        missing = []
        for file in files:
            path = "" if source.is_file() else file.relative_to(source).as_posix()
            if there.get(path) != file.stat().st_size:
                missing.append((file, path))
        if missing:
            on_start()
        for file, path in missing:
            place.put(file, path)


def put(source: Path, url: str) -> None:
    """Copy a file, whatever lies there already.

    Raises:
        ClusterError: The store refuses or cannot be reached.
    """
    with answers(url, "be writable"):
        _open(url).put(source)


def remove(url: str) -> None:
    """Remove all files at and below an address; none is no error.

    Raises:
        ClusterError: The store refuses or cannot be reached.
    """
    with answers(url, "be writable"):
        _open(url).remove_all()


def fingerprint(url: str) -> str:
    """Compute a text that changes when what lies there does, from the store's listing and not from the content.

    Raises:
        ClusterError: The store refuses, cannot be reached, or has nothing there.
    """
    with answers(url, "be readable"):
        listing = sorted([address.partition("://")[2], one.bytes, one.entity] for address, one in _list(url))
    if not listing:
        raise ClusterError(f"{url} must exist; there is nothing. Check the address.")
    return "listing-" + hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def exists(url: str) -> bool:
    """Whether something lies there.

    Raises:
        ClusterError: The store refuses or cannot be reached.
    """
    with answers(url, "be readable"):
        return _open(url).exists()


def find(url: str) -> list[str]:
    """List the files below an address, in full.

    Raises:
        ClusterError: The store refuses or cannot be reached.
    """
    with answers(url, "be readable"):
        return [f"{url.rstrip('/')}/{path}" for path in _open(url).files()]


def match(pattern: str) -> list[str]:
    """List the addresses that a pattern matches, folders too.

    Raises:
        ClusterError: The store refuses or cannot be reached.
    """
    scheme = pattern.partition("://")[0]
    with answers(pattern, "be readable"):
        return [f"{scheme}://{address.partition('://')[2]}" for address in _open(pattern).match()]


def read(url: str) -> bytes:
    """Read a file as a whole.

    Raises:
        ClusterError: The store refuses, cannot be reached, or has nothing there.
    """
    with answers(url, "be readable"):
        return _open(url).read("")


def check_access(url: str) -> None:
    """Write a small file below an address, read it back and remove it.

    Raises:
        ClusterError: One of the three is refused.
    """
    content = uuid.uuid4().bytes
    with answers(url, "be writable and readable"):
        place = _open(url)
        probe = f".learn2compress-{uuid.uuid4().hex}"
        place.write(probe, content)
        found = place.read(probe)
        place.remove(probe)
    if found != content:
        raise ClusterError(f"{url} must give back what was written; it gave something else. Check the store.")


def _plain(url: str) -> str:
    return url.partition("?")[0].rstrip("/") if not _is_pattern(url) else url.rstrip("/")


def _is_pattern(url: str) -> bool:
    return any(sign in url for sign in _PATTERN_SIGNS)


def _list(url: str) -> list[tuple[str, Stored]]:
    """The files at, below or matched by an address, each with its own address."""
    place = _open(url)
    if _is_pattern(url):
        return [(address, one) for address in place.match() for one in Bucket(address).stored() if not one.path]
    return [(place.join(one.path), one) for one in place.stored()]


def _open(url: str) -> Bucket:
    if not is_remote(url):
        raise ClusterError(f"{url} must be an s3://, gs:// or minio:// address; it is none. Give one.")
    place = Bucket(url)
    place.forget_listings()  # others write there, too
    return place


@contextmanager
def answers(url: str, rule: str) -> Iterator[None]:
    """Names the remedy for each way in which a store fails."""
    try:
        yield
    except (ClusterError, UnsafePathError):
        raise
    except LineageError as error:
        raise ClusterError(f"{url} must {rule}; {_line(error)}. Install the package.") from error
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
