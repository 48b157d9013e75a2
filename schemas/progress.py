# SPDX-License-Identifier: Apache-2.0
"""What long work says while it goes on: to whoever listens, or else to the log.

The algorithms do not know who runs them. A command line sets a listener that draws bars; a step in a container leaves
the default, a log line now and then.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger("learn2compress")


@dataclass(frozen=True)
class Progress:
    """How far a piece of work has come.

    Attributes:
        task: What is being done, in words.
        done: Units finished.
        total: Units in all, or None where that is not known.
        detail: What is worth seeing of it, such as the accuracies of an epoch; empty if nothing.
        seconds: Since the work began.
        before: Units that had been finished before it began: of a training that goes on, its earlier epochs.
    """

    task: str
    done: int
    total: int | None
    detail: str
    seconds: float
    before: int = 0

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the pace so far."""
        if self.done <= self.before or self.total is None:
            return None
        return self.seconds / (self.done - self.before) * (self.total - self.done)


Listener = Callable[[Progress], None]


class _LogNowAndThen:
    """Logs when there is something to see, at most every ten seconds otherwise."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.detail or now - self.last > 10:
            self.last = now
            total = f"/{progress.total}" if progress.total is not None else ""
            log.info("%s %d%s %s", progress.task, progress.done, total, progress.detail)


_listener: Listener = _LogNowAndThen()


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Sends all progress in this process to the listener while the block runs."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


class Task:
    """A piece of work that is counted."""

    def __init__(self, name: str, total: int | None = None, before: int = 0) -> None:
        self.name, self.total, self.done, self.before, self.began = name, total, before, before, time.monotonic()

    def advance(self, units: int = 1, detail: str = "") -> None:
        """Counts units as finished and tells the listener."""
        self.done += units
        _listener(Progress(self.name, self.done, self.total, detail, time.monotonic() - self.began, self.before))


def say(text: str) -> None:
    """Tells the listener something that is worth keeping on the screen."""
    for line in text.splitlines():
        _listener(Progress("", 0, None, line, 0.0))
