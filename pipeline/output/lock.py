# SPDX-License-Identifier: Apache-2.0
"""Locks an output folder, so that only one process at a time works in it.

The lock is the kernel's (flock) and ends with its process. On a network file system it is effective between hosts only
if that file system supports such locks. The description of the holder in the file is used for error messages only;
a command that ends without an error empties it, so that `verify` recognizes an interruption.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from learn2compress.schemas.errors import OutputError
from learn2compress.schemas.provenance import LOCK_FILE

_PATIENCE_SECONDS = 2.0


@contextmanager
def hold_output(output: Path, command: str) -> Iterator[None]:
    """Locks an output folder against other commands while the context lasts.

    Args:
        output: Existing output folder.
        command: Name of the command, for the error message of another process.

    Raises:
        OutputError: Another process works in the folder, or it cannot be written.
    """
    try:
        descriptor = os.open(output / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(
            f"output {output} must be writable; {error.strerror}. Change its permissions, or copy it elsewhere."
        ) from error
    try:
        try:
            _lock(descriptor)
        except BlockingIOError as error:
            raise OutputError(
                f"output {output} must be free to use; {_holder(descriptor)} works in it. Wait until that is done, end "
                "it, or choose another folder."
            ) from error
        except OSError:
            pass  # a file system without locks
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": started, "command": command}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(holder) + "\n").encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Take the lock; a child that a killed process was just starting may hold it for a moment longer."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 1000, 0))
        return (
            f"process {holder['process']} on {holder['host']} (learn2compress {holder['command']}, "
            f"since {holder['since']})"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
