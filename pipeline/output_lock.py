# SPDX-License-Identifier: Apache-2.0
"""One process at a time works in an output folder.

The lock is the kernel's (flock), so a killed process leaves none behind; on a network file system it holds as far as
that file system passes such locks on to other hosts. What the file says of its holder is for the message alone.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from learn2compress.schemas.errors import OutputError
from learn2compress.schemas.provenance import LOCK_FILE


@contextmanager
def hold_output(output: Path, command: str) -> Iterator[None]:
    """Keeps other commands from writing into an output folder, for as long as the context lasts.

    Args:
        output: Folder that is there.
        command: Name of the command, for others to read.

    Raises:
        OutputError: Another process works in it, or it cannot be written.
    """
    try:
        descriptor = os.open(output / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(
            f"output {output} must be writable; {error.strerror}. Change its permissions, or copy it elsewhere."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    try:
        told = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {told['process']} on {told['host']} (learn2compress {told['command']}, since {told['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
