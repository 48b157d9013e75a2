# SPDX-License-Identifier: Apache-2.0
"""Writing a file whole or not at all: beside its place, flushed to the disk, then renamed over it.

A reader, and whoever comes after a kill or a full disk, sees the former content or the new one and nothing between.
"""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes | str) -> None:
    """Replaces a file's content in one step.

    Args:
        path: File to write; its folder is there.
        content: All of it; text is written as UTF-8.

    Raises:
        OSError: It cannot be written; the former file is as it was.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with aside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
