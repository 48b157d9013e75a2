# SPDX-License-Identifier: Apache-2.0
"""Ends a command and its child processes on SIGINT or SIGTERM, with a message of one line.

The exit status is 130 or 143: 128 plus the number of the signal, as in a shell.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_SECONDS = 3.0


class InterruptedBySignal(BaseException):
    """Raised when a signal ends this process; `except Exception` does not catch it.

    Attributes:
        status: Exit status.
        remedy: Advice on how to continue, as the rest of a sentence; empty if there is none.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number
        self.remedy = ""


@contextmanager
def signals_raised() -> Iterator[None]:
    """Raise InterruptedBySignal in the main thread when a signal arrives, instead of ending the process silently."""

    def stop(number: int, _: FrameType | None) -> None:
        for each in _SIGNALS:  # further signals do not interrupt the clean-up
            signal.signal(each, signal.SIG_IGN)
        raise InterruptedBySignal(number)

    former = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def resumable() -> Iterator[None]:
    """Mark work that can be resumed by running the same command again."""
    try:
        yield
    except InterruptedBySignal as interrupted:
        interrupted.remedy = "the same command goes on from here"
        raise


def end_children() -> None:
    """End all descendant processes of this process."""
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        try:
            child.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(children, timeout=_PATIENCE_SECONDS)
    for child in alive:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=_PATIENCE_SECONDS)
