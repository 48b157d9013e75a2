# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM end a command with one line, its child processes with it.

The exit status is 130 or 143, 128 and the signal's number, as shells have it.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_SECONDS = 3.0


class InterruptedBySignal(BaseException):
    """A signal asked this process to end. No `except Exception` catches it.

    Attributes:
        status: The exit status.
        remedy: What can be done next, as the rest of a sentence; empty where nothing remains.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number
        self.remedy = ""


@contextmanager
def signals_raised() -> Iterator[None]:
    """Raises InterruptedBySignal in the main thread where a signal would end the process without a word."""

    def stop(number: int, _: FrameType | None) -> None:
        for each in _SIGNALS:  # what ends the command is not interrupted again
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
    """Marks work that the same command continues."""
    try:
        yield
    except InterruptedBySignal as interrupted:
        interrupted.remedy = "the same command goes on from here"
        raise


def end_children() -> None:
    """Ends all processes that this one started, and those that they started."""
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
