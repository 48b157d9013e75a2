# SPDX-License-Identifier: Apache-2.0
"""The one rule for every path that comes from outside: relative, inside its folder, and no link that leads out.

Outside are manifests, records, archives, object stores and configurations: whoever wrote one must not choose where on
this machine a file is read or written.
"""

from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from learn2compress.schemas.errors import UnsafePathError

_LONGEST = 1024


def check_relative(path: str) -> str:
    """Check that a path names something below the folder that it is relative to.

    Args:
        path: Path with `/` between its parts.

    Returns:
        The path, unchanged.

    Raises:
        UnsafePathError: It is absolute or a URL, leaves the folder, or has a sign that no file name of ours has.
    """
    parts = path.split("/")
    strange = any(ord(sign) < 32 or sign in "\\\x7f" for sign in path)
    if strange or len(path) > _LONGEST or "" in parts or "." in parts or ".." in parts or ":" in parts[0]:
        raise UnsafePathError(
            f"path must be relative, with no part `..` and no line break or backslash; got {path[:80]!r}. "
            "Take the file from whom you trust."
        )
    return path


def path_inside(folder: str | Path, path: str) -> Path:
    """Join a folder and a path from outside.

    Args:
        folder: Folder; it need not exist.
        path: Path relative to it, with `/` between its parts.

    Returns:
        The joined path.

    Raises:
        UnsafePathError: The path is not relative, or leads out of the folder, by a symbolic link too.
    """
    joined = Path(folder, PurePosixPath(check_relative(path)))
    if not joined.resolve().is_relative_to(Path(folder).resolve()):
        raise UnsafePathError(
            f"{joined} must lie inside {folder}; a symbolic link leads out of it. Put a copy in the link's place."
        )
    return joined


RelativePath = Annotated[str, AfterValidator(check_relative)]
"""A field of a manifest: a path that `check_relative` accepts."""
