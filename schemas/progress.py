# SPDX-License-Identifier: Apache-2.0
"""Progress of long-running work, which is sent to a listener or else to the log.

The algorithms do not depend on how they are run. The command line sets a listener that draws progress bars; a step in a
container keeps the default, occasional log lines.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger("learn2compress")


@dataclass(frozen=True)
class Progress:
    """Progress of a task.

    Attributes:
        task: Description of the task.
        done: Number of finished units.
        total: Total number of units; None if it is not known.
        detail: Result to display, such as the accuracies of an epoch; empty if there is none.
        seconds: Time since the start of the task.
        before: Number of units that were finished before the start, such as earlier epochs of a resumed training.
    """

    task: str
    done: int
    total: int | None
    detail: str
    seconds: float
    before: int = 0

    @property
    def seconds_left(self) -> float | None:
        """Remaining time, estimated from the speed so far; None if it is not known."""
        if self.done <= self.before or self.total is None:
            return None
        return self.seconds / (self.done - self.before) * (self.total - self.done)


Listener = Callable[[Progress], None]


class _LogNowAndThen:
    """Listener that logs details at once, and other progress at most every ten seconds."""

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
    """Sends all progress in this process to a listener within the `with` block."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


class Task:
    """A task whose finished units are counted."""

    def __init__(self, name: str, total: int | None = None, before: int = 0) -> None:
        self.name, self.total, self.done, self.before, self.began = name, total, before, before, time.monotonic()

    def advance(self, units: int = 1, detail: str = "") -> None:
        """Counts units as finished and informs the listener."""
        self.done += units
        _listener(Progress(self.name, self.done, self.total, detail, time.monotonic() - self.began, self.before))


def say(text: str) -> None:
    """Sends a text to the listener that stays on the screen."""
    for line in text.splitlines():
        _listener(Progress("", 0, None, line, 0.0))
