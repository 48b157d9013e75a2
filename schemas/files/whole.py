# SPDX-License-Identifier: Apache-2.0
"""Writing a file whole or not at all: beside its place, flushed to the disk, then renamed over it.

A reader, and whoever comes after a kill or a full disk, sees the former content or the new one and nothing between.
Each attempt writes under a name of its own, so two attempts at the same file do not disturb each other.
"""

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ASIDE = re.compile(r"\..+\.[0-9a-f]{32}\.new")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Lends a new path beside a file, and renames what was written there over the file.

    Args:
        path: File to replace; its folder is there.

    Yields:
        The path to write to. If the block raises, what was written is removed and the former file stays.

    Raises:
        OSError: It cannot be written.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.new")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes | str) -> None:
    """Replaces a file's content in one step.

    Args:
        path: File to write; its folder is there.
        content: All of it; text is written as UTF-8.

    Raises:
        OSError: It cannot be written; the former file is as it was.
    """
    with written_whole(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def write_named(path: Path, content: str) -> None:
    """Writes a file that the user names, in one step unless it is a device or a pipe such as /dev/stdout.

    Raises:
        OSError: It cannot be written; the former file is as it was.
    """
    path = path.resolve()  # the file that a symbolic link names is written, not the link
    if path.exists() and not path.is_file():
        path.write_text(content, encoding="utf-8")
    else:
        write_whole(path, content)


def copy_whole(source: Path, target: Path) -> None:
    """Copies a file's content in one step.

    Raises:
        OSError: It cannot be read or written; the former target is as it was.
    """
    with written_whole(target) as aside:
        shutil.copyfile(source, aside)


def is_aside(name: str) -> bool:
    """Whether a file's name is that of an attempt which has not ended, or never will."""
    return _ASIDE.fullmatch(name) is not None


def remove_asides(folder: Path) -> list[Path]:
    """Removes what killed attempts left in a folder and below it. No attempt may be at work there.

    Returns:
        The files removed.
    """
    left = [path for path in folder.rglob(".*.new") if is_aside(path.name) and path.is_file()]
    for path in left:
        path.unlink()
    return left
