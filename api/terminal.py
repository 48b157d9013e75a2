# SPDX-License-Identifier: Apache-2.0
"""Shows the progress of a run: the node, the epoch and the time left, without the output of the libraries."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from learn2compress.api.time_left import TimeLeft, minutes
from learn2compress.report.shortfall import find_shortfall
from learn2compress.schemas.errors import OutputError
from learn2compress.schemas.units import format_bytes, format_count

Detail = Literal["quiet", "normal", "verbose"]
"""What a run shows: nothing but its result, its progress, or each epoch and each step on a line of its own."""

_LINE_SECONDS = 30  # without a terminal, print a line at this interval to show that long work is progressing


class Screen:
    """Draws progress on standard output as it was before it was redirected to a log.

    Args:
        detail: What is shown. The log holds every line in any case.
    """

    def __init__(self, detail: Detail = "normal") -> None:
        self._stream = _standard_output()
        self.console = Console(
            file=self._stream,
            highlight=False,
            force_jupyter=False,
            force_terminal=False if self._stream is sys.stdout else None,  # a notebook's claims to be one
            quiet=detail == "quiet",
        )
        self._detail = detail
        self._time_left = TimeLeft()
        self._log: IO[str] | None = None
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[result]}"),
            console=self.console,
            transient=True,
            # Otherwise rich replaces sys.stdout and sys.stderr, and shows the libraries' output.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[str, Any] = {}
        self._results: dict[str, str] = {}  # last line of each task whose lines are rewritten in place
        self._last_line = time.monotonic()

    def __enter__(self) -> "Screen":
        if self._draws:
            self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._draws:
            self._bars.stop()
        self._stream.flush()

    @property
    def _draws(self) -> bool:
        return self.console.is_terminal and self._detail != "quiet"

    @contextmanager
    def writing_to(self, log: IO[str]) -> Iterator[None]:
        """Write each line to a log as well while the context lasts."""
        self._log = log
        try:
            yield
        finally:
            self._log = None

    def expect(self, time_left: TimeLeft) -> None:
        """Show the time left of the whole run from now on."""
        self._time_left = time_left

    def say(self, text: str) -> None:
        """Print a line that stays on the screen."""
        self._keep(text)
        self.console.print(text, markup=False, soft_wrap=True)
        self._stream.flush()

    def show_node(self, event: Any) -> None:
        """Print that a node has started or ended (a NodeEvent)."""
        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks.clear()
        for line in self._results.values():
            self._print(line)
        self._results.clear()
        self._time_left.note_node(event)
        place = f"[{event.index}/{event.total}] {event.node}"
        left = self._time_left.text()
        if event.seconds is None:
            self.say(f"{place} …{f' ({left})' * bool(left)}")
        elif event.cached:
            self.say(f"{place} unchanged, from the cache")
        else:
            execution = f", execution {event.execution}" if self._detail == "verbose" else ""
            self.say(f"{place} done in {event.seconds:.0f} s{execution}")

    def show_progress(self, progress: Any) -> None:
        """Update a progress bar, and print a line if the event has a detail (a schemas.progress.Progress).

        At a terminal the lines of epochs are rewritten in place, and the last one stays.
        """
        if not progress.task:
            self.say(f"    {progress.detail}")
            return
        self._time_left.note_progress(progress)
        terminal = self._draws
        due = not terminal and time.monotonic() - self._last_line >= _LINE_SECONDS
        in_place = terminal and self._detail == "normal" and progress.task.endswith(": epoch")
        if progress.detail or due:
            line = f"    {progress.task} {_count(progress)}{_result(progress, terminal, due)}"
            if in_place:
                self._keep(line)
                self._results[progress.task] = line
            else:
                self.say(line)
            self._last_line = time.monotonic()
        if terminal and progress.total is not None:
            self._draw(progress, in_place)

    def _draw(self, progress: Any, in_place: bool) -> None:
        if progress.task not in self._tasks:
            bar = self._bars.add_task(progress.task, total=progress.total, completed=progress.before, result="")
            self._tasks[progress.task] = bar
        result = ", ".join(filter(None, [progress.detail, self._time_left.text()])) if in_place else ""
        self._bars.update(self._tasks[progress.task], completed=progress.done, result=result)
        if progress.done >= progress.total:
            self._bars.remove_task(self._tasks.pop(progress.task))
            if progress.task in self._results:
                self._print(self._results.pop(progress.task))

    def _print(self, line: str) -> None:
        """Print a line that the log has already."""
        self.console.print(line, markup=False, soft_wrap=True)

    def _keep(self, line: str) -> None:
        if self._log is not None:
            self._log.write(line + "\n")
            self._log.flush()

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
        for note in report.notes:
            self.say(f"Note: {note}")
        self.say(f"Done in {seconds / 60:.1f} minutes.")
        for what, path in (
            ("all models", output / "models"),
            ("the app bundle", bundle),
            ("the report", output / "report.html"),
            ("the chosen model", selected),
        ):
            self.say(f"{what + ':':<18}{path}")


def _count(progress: Any) -> str:
    return f"{progress.done}" + ("" if progress.total is None else f"/{progress.total}")


def _result(progress: Any, terminal: bool, due: bool) -> str:
    """Write the rest of a line: the result and, where no bar shows it, the time left."""
    left = 0.0 if terminal else progress.seconds_left or 0.0
    worth_telling = left >= _LINE_SECONDS or (due and left)
    said = ", ".join(filter(None, [progress.detail, f"about {minutes(left)} left" if worth_telling else ""]))
    return f": {said}" if said else ""


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:.2f} ms" if milliseconds >= 0.1 else f"{milliseconds * 1000:.1f} µs"


def _is_descriptor(stream: Any, number: int) -> bool:
    """Tell whether a stream writes to a descriptor of this process; that of a notebook does not."""
    try:
        return stream.fileno() == number and not hasattr(stream, "pub_thread")
    except (OSError, ValueError, AttributeError):
        return False


def _standard_output() -> IO[str]:
    """Copy standard output, so that it can be redirected; one that is not the process's own needs no copy."""
    if _is_descriptor(sys.stdout, 1):
        return os.fdopen(os.dup(1), "w", encoding="utf-8")
    return sys.stdout


@contextmanager
def quiet_output(log: Path) -> Iterator[IO[str]]:
    """Redirect standard output and error to a log file, including output of libraries written in C++.

    Args:
        log: Path of the log; lines are appended.

    Yields:
        The opened log.

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
    streams = sys.stdout, sys.stderr
    saved = [os.dup(1), os.dup(2)]
    try:
        os.dup2(target.fileno(), 1)
        os.dup2(target.fileno(), 2)
        # Streams that do not write to the descriptors, such as those of a notebook, are replaced.
        sys.stdout = streams[0] if _is_descriptor(streams[0], 1) else target
        sys.stderr = streams[1] if _is_descriptor(streams[1], 2) else target
        yield target
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        target.close()
