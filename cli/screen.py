# SPDX-License-Identifier: Apache-2.0
"""Shows the progress of a run: the node, the epoch and the time left, without the output of the libraries."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from learn2compress.report.shortfall import find_shortfall
from learn2compress.schemas.errors import OutputError
from learn2compress.schemas.units import format_bytes, format_count

_LINE_SECONDS = 30  # without a terminal, print a line at this interval to show that long work is progressing


class Screen:
    """Draws progress on a copy of standard output that was made before standard output was redirected to a log."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        self.console = Console(file=self._stream, highlight=False)
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            # Otherwise rich replaces sys.stdout and sys.stderr, and shows the libraries' output.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[str, Any] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> "Screen":
        if self.console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.console.is_terminal:
            self._bars.stop()
        self._stream.flush()

    def say(self, text: str) -> None:
        """Print a line that stays on the screen."""
        self.console.print(text, markup=False, soft_wrap=True)

    def show_node(self, event: Any) -> None:
        """Print that a node has started or ended (a NodeEvent)."""
        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks.clear()
        place = f"[{event.index}/{event.total}] {event.node}"
        if event.seconds is None:
            self.say(f"{place} …")
        elif event.cached:
            self.say(f"{place} unchanged, from the cache")
        else:
            self.say(f"{place} done in {event.seconds:.0f} s")

    def show_progress(self, progress: Any) -> None:
        """Update a progress bar, and print a line if the event has a detail (a schemas.progress.Progress)."""
        if not progress.task:
            self.say(f"    {progress.detail}")
            return
        terminal = self.console.is_terminal
        due = not terminal and time.monotonic() - self._last_line >= _LINE_SECONDS
        if progress.detail or due:
            left = 0.0 if terminal else progress.seconds_left or 0.0
            worth_telling = left >= _LINE_SECONDS or (due and left)
            parts = [progress.detail, f"about {_minutes(left)} left" if worth_telling else ""]
            total = "" if progress.total is None else f"/{progress.total}"
            said = ", ".join(filter(None, parts))
            self.say(f"    {progress.task} {progress.done}{total}" + (f": {said}" if said else ""))
            self._last_line = time.monotonic()
        if not terminal or progress.total is None:
            return
        if progress.task not in self._tasks:
            bar = self._bars.add_task(progress.task, total=progress.total, completed=progress.before)
            self._tasks[progress.task] = bar
        self._bars.update(self._tasks[progress.task], completed=progress.done)
        if progress.done >= progress.total:
            self._bars.remove_task(self._tasks.pop(progress.task))

    def summary(self, report: Any, output: Path, bundle: Path, selected: Path, seconds: float) -> None:
        """Print the table of candidates and the paths of the results."""
        table = Table(title="Measurements of each file", title_justify="left")
        for column in ("model", "size", "MACs", "accuracy (test)", "latency", "verdict"):
            table.add_column(column, justify="left" if column in ("model", "verdict") else "right")
        verdicts = {v.candidate: v for v in report.choice.verdicts}
        for candidate in report.evaluation.candidates:
            figures = candidate.figures.get("test")
            accuracy = "–"
            if figures:
                accuracy = f"{figures.top1:.1%} ±{(figures.top1_interval.high - figures.top1_interval.low) / 2:.1%}"
            table.add_row(
                candidate.name,
                format_bytes(candidate.bytes),
                "–" if candidate.macs is None else format_count(candidate.macs),
                accuracy,
                _duration(candidate.latency[0].p50_ms) if candidate.latency else "–",
                verdicts[candidate.name].status,
            )
        self.console.print(table)
        reference = report.evaluation.teacher
        if reference:
            self.say(
                f"The teacher: {format_bytes(reference.bytes)}, {reference.accuracy['test']:.1%} on the test split. "
                f"Latency is this machine's, not a phone's."
            )
        reason = verdicts[report.choice.chosen].reason
        self.say(f"Chosen: {report.choice.chosen} – {reason}")
        if shortfall := find_shortfall(report):
            self.say(f"Attention: {shortfall.describe()}")
        self.say(f"Done in {seconds / 60:.1f} minutes.")
        for what, path in (
            ("all models", output / "models"),
            ("the app bundle", bundle),
            ("the report", output / "report.html"),
            ("the chosen model", selected),
        ):
            self.say(f"{what + ':':<18}{path}")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:.2f} ms" if milliseconds >= 0.1 else f"{milliseconds * 1000:.1f} µs"


@contextmanager
def quiet_output(log: Path) -> Iterator[None]:
    """Redirect standard output and error to a log file, including output of libraries written in C++.

    Args:
        log: Path of the log; lines are appended.

    Raises:
        OutputError: The log cannot be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        target = log.open("a", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{log.parent} must be a writable folder; {error.strerror}. Choose another.") from error
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    try:
        os.dup2(target.fileno(), 1)
        os.dup2(target.fileno(), 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        target.close()
