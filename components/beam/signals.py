# SPDX-License-Identifier: Apache-2.0
"""Lets the workers of a job tell the step of user errors and of finished work, through small files.

An engine tries a failed bundle again, Flink as often as its restart strategy says, Dataflow four times. A damaged
example stays damaged, so its error is not raised in a worker: it is written to a file, the rest of the work is skipped,
the job ends, and the step raises the error. What the step cannot foresee, such as a lost connection, is raised and
tried again. Finished pieces of work are counted in the same way, since most engines tell of progress only in their own
pages; the file of a piece has a fixed name, so that a piece that is done twice counts once.
"""

import json
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from learn2compress.components.beam import exchange
from learn2compress.components.beam.options import user_errors
from learn2compress.schemas import errors
from learn2compress.schemas.errors import Learn2CompressError, full_disk
from learn2compress.schemas.progress import Task

_POLL_SECONDS = 1.0


class Signals:
    """The files of one job.

    Args:
        folder: Reference of their folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder, self._errors, self._done = folder, f"{folder}/errors", f"{folder}/done"

    def tell_error(self, error: Learn2CompressError) -> None:
        """Records a user error."""
        content = json.dumps([type(error).__name__, exchange.in_references(str(error))])
        exchange.write(f"{self._errors}/{uuid.uuid4().hex}.json", content.encode())

    def tell_done(self, name: str) -> None:
        """Records a finished piece of work, by a name of its own."""
        exchange.write(f"{self._done}/{name}", b"")

    def has_error(self) -> bool:
        """Whether a worker has recorded a user error."""
        return bool(exchange.names(self._errors))

    def done(self) -> list[str]:
        """Lists the names of finished pieces of work."""
        return exchange.names(self._done)

    def find_error(self) -> Learn2CompressError | None:
        """Reads the recorded error; of several the first by its message, so that the same one is told each time."""
        found = []
        for name in exchange.names(self._errors):
            kind, message = json.loads(exchange.read(f"{self._errors}/{name}") or b'["DataError", "unknown"]')
            found.append((message, kind))
        if not found:
            return None
        message, kind = min(found)
        return getattr(errors, kind, Learn2CompressError)(message)

    def clear(self) -> None:
        """Removes the files."""
        exchange.remove(self._folder)

    @contextmanager
    def running(
        self, pipeline: beam.Pipeline, place: exchange.Exchange, progress: str, units: Mapping[str, int]
    ) -> Iterator[beam.Pipeline]:
        """Runs a pipeline at the end of the block; raises the user error that a worker has recorded.

        Args:
            pipeline: Beam pipeline, not yet run.
            place: Exchange of the job.
            progress: Name under which progress is shown; empty if the workers show it themselves.
            units: Units of each piece of work by its name.

        Raises:
            Learn2CompressError: A worker has recorded it, or raised it.
        """
        self.clear()
        try:
            with user_errors(), self._watched(progress, units), pipeline:
                yield pipeline
            error = self.find_error()
        finally:
            self.clear()
        if error is not None:
            raise type(error)(place.in_words_of_the_step(str(error)))

    @contextmanager
    def _watched(self, progress: str, units: Mapping[str, int]) -> Iterator[None]:
        if not progress or not units:
            yield
            return
        ended, seen, task = threading.Event(), set[str](), Task(progress, sum(units.values()))

        def look() -> None:
            new = (set(self.done()) - seen) & set(units)
            if new:
                seen.update(new)
                task.advance(sum(units[name] for name in new))

        def watch() -> None:
            while not ended.wait(_POLL_SECONDS):
                look()

        thread = threading.Thread(target=watch, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        look()


class Worker(beam.DoFn):
    """A DoFn that records a user error instead of raising it, and then skips what is left."""

    signals: Signals | None = None

    def process(self, element: Any) -> Iterator[Any]:
        """Does the work on an element; Beam calls this."""
        if self.signals is None:
            yield from self.work(element) or ()
            return
        if self.signals.has_error():
            return
        try:
            yield from self.work(element) or ()
        except Exception as error:
            found = error if isinstance(error, Learn2CompressError) else full_disk(error)
            if found is None:
                raise
            self.signals.tell_error(found)

    def tell_done(self, name: str) -> None:
        """Records a finished piece of work."""
        if self.signals is not None:
            self.signals.tell_done(name)

    def work(self, element: Any) -> Iterable[Any] | None:
        """Does the work; a user error that it raises is recorded."""
        raise NotImplementedError


def runs_in_this_process(options: PipelineOptions) -> bool:
    """Whether the workers of a pipeline are threads of this process."""
    runner = options.view_as(StandardOptions).runner or ""
    in_memory = options.view_as(DirectOptions).direct_running_mode == "in_memory"
    return runner.endswith("FnApiRunner") and in_memory
