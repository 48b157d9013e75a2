# SPDX-License-Identifier: Apache-2.0
"""Computes the SHA-256 of files and folders, by which content is identified independently of paths.

Each digest can be computed with standard shell tools, so that records can be checked without this package. Files are
read in chunks, so that memory does not grow with their size.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from learn2compress.schemas.errors import LineageError

CHUNK_BYTES = 1 << 20


def file_sha256(path: str | Path) -> str:
    """Compute a file's SHA-256, as `sha256sum` prints it.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
        LineageError: It is a pipe or a device, which may never end.
    """
    digest = hashlib.sha256()
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):  # opening a folder says what is wrong
        raise LineageError(f"{path} must be a regular file; it is a pipe or a device. Remove it.")
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def tree_sha256(path: str | Path) -> str:
    r"""Compute the SHA-256 of a folder from the contents and relative paths of its files.

    The rule: a line `"<sha256>  <path>\n"` for each regular file below the folder, where `<path>` is relative to it,
    with `/` between its parts; the lines sorted as UTF-8 bytes; the SHA-256 of all lines joined. In a shell:

        find . -type f -printf '%P\0' | xargs -0 sha256sum | LC_ALL=C sort | sha256sum

    The digest does not depend on the name and location of the folder, on times, permissions, the order of listing or
    empty sub-folders. A symbolic link to a file counts as the file that it points to.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        NotADirectoryError: The path is not a folder.
        OSError: A file in it cannot be read.
        LineageError: The folder has a linked sub-folder, or a name with a line break or a backslash, for which the rule
            is ambiguous.
    """
    root = Path(path)
    if not root.is_dir():
        raise NotADirectoryError(f"{root} must be a folder")
    lines = []
    for folder, subfolders, names in os.walk(root, onerror=_raise):
        for name in subfolders:
            if os.path.islink(os.path.join(folder, name)):
                raise LineageError(
                    f"folder {root} must hold no linked sub-folders, which its digest cannot cover; "
                    f"got {os.path.join(folder, name)}. Put a copy in its place."
                )
        for name in names:
            file = Path(folder, name)
            relative = file.relative_to(root).as_posix()
            if any(sign in relative for sign in "\n\r\\"):
                raise LineageError(
                    f"names in folder {root} must be free of line breaks and backslashes; got {relative!r}. "
                    "Rename the file."
                )
            lines.append(f"{file_sha256(file)}  {relative}\n".encode())
    return hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def digest_of_tree(files: Mapping[str, str]) -> str:
    """Compute a folder's digest from its files' paths and SHA-256, by the rule of `tree_sha256`."""
    lines = sorted(f"{sha256}  {path}\n".encode() for path, sha256 in files.items())
    return hashlib.sha256(b"".join(lines)).hexdigest()


def path_sha256(path: str | Path) -> str:
    """Compute the digest of a file or folder: `tree_sha256` of a folder, otherwise `file_sha256`."""
    return tree_sha256(path) if Path(path).is_dir() else file_sha256(path)


def path_bytes(path: str | Path) -> int:
    """Add up the bytes of a file, or of all files below a folder."""
    path = Path(path)
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def _raise(error: OSError) -> None:
    # By default, os.walk skips folders that it cannot list, and the digest would lack their files.
    raise error
