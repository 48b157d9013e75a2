# SPDX-License-Identifier: Apache-2.0
"""Builds the Beam arguments of a run on one machine, and recovers user errors from the exceptions that Beam raises."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from learn2compress.schemas import errors
from learn2compress.schemas.errors import Learn2CompressError, causes, full_disk

_LOGGER = logging.getLogger(__name__)
# Beam's message names the error's class by its full path, and ends with the step that failed, once or more.
_USER_ERROR = re.compile(rf"{re.escape(errors.__name__)}\.(\w+): (.*?)(?: \[while running '[^\n]*)?$", re.MULTILINE)


def direct_runner_args(workers: int) -> list[str]:
    """Build the Beam arguments for one machine.

    The runner is named in full because "DirectRunner" first looks for Prism, a binary that it downloads. It does not
    use the container image; naming one prevents TFX from packing itself into an archive for remote workers, which takes
    five seconds for each node.

    Beam starts its processes through a shell and does not quote Python's path. If that path contains a blank, they
    never start and the runner waits forever; the work is then done in the caller's process.

    Args:
        workers: Number of processes; a single one is the caller's own. Starting others takes some ten seconds.
    """
    if workers > 1 and len(sys.executable.split()) > 1:
        _LOGGER.warning("Beam starts no processes with a Python whose path has a blank (%s); using one", sys.executable)
        workers = 1
    mode = "in_memory" if workers == 1 else "multi_processing"
    return [
        "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        f"--direct_num_workers={workers}",
        f"--direct_running_mode={mode}",
        "--sdk_container_image=unused",
    ]


@contextmanager
def user_errors() -> Iterator[None]:
    """Run a Beam pipeline so that a Learn2CompressError raised in a worker is raised here with its class and message.

    Workers are other processes, perhaps on other machines: only the text of an exception arrives, within that of a
    RuntimeError. The error is found there by the full name of its class. A full disk is raised as an OutputError.
    """
    try:
        yield
    except Learn2CompressError as error:
        # In-process, Beam keeps the class and adds to the message.
        raise find_user_error(error) or error from error
    except Exception as error:
        found = find_user_error(error)
        if found is None:
            raise
        raise found from error


def find_user_error(error: BaseException) -> Learn2CompressError | None:
    """Find the user error in an exception that Beam raised; None if there is none."""
    texts = [f"{type(e).__module__}.{type(e).__qualname__}: {e}" for e in causes(error)]
    for text in texts:
        for name, message in _USER_ERROR.findall(text):
            kind = getattr(errors, name, None)
            if isinstance(kind, type) and issubclass(kind, Learn2CompressError):
                return kind(message)
    return full_disk(error)
