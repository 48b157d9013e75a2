# SPDX-License-Identifier: Apache-2.0
"""Runs a Beam job of a node so that it is cancelled if the run is interrupted, and ends with one line if it fails.

The arguments of the runner come from here and not from the DAG: TFX's cache key contains the arguments of a node, and
the same work on another engine, or with more workers, would otherwise not be found in the cache.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.runners.runner import PipelineState

from learn2compress.components.beam.exchange import Exchange, read
from learn2compress.components.beam.lost_workers import aborting_lost_workers, is_lost_worker, is_race
from learn2compress.components.beam.options import direct_runner_args, find_user_error, user_errors
from learn2compress.components.beam.runners import beam_args
from learn2compress.schemas.config import PipelineConfig
from learn2compress.schemas.errors import EngineError, LostWorkerError, PassingEngineError
from learn2compress.schemas.progress import say

_MAX_REASON = 200
ATTEMPTS = 3
"""How often a step is tried that fails by chance, such as one whose workers are lost."""

MISSING_PACKAGE = "No module named 'learn2compress'"
T = TypeVar("T")

# Java's stack ends with the cause that counts.
_JAVA_CAUSE = re.compile(r"^(?:Caused by: )?((?:[a-z]\w*\.)+[A-Z]\w*(?:Exception|Error))(?:: (.*))?$", re.MULTILINE)


def open_job(config: PipelineConfig, has_exchange: bool) -> "Job":
    """Opens the job of a step.

    Args:
        config: Section `pipeline`.
        has_exchange: Whether the step's workers get and leave files through an exchange; TFX's own steps, such as
            StatisticsGen, do not, and run on this machine where there is one.
    """
    if config.exchange and not has_exchange:
        return Job("direct", direct_runner_args(1))
    return Job(config.runner, beam_args(config))


def check_workers(config: PipelineConfig, file: Path) -> None:
    """Runs a job of one element, which shows that workers start, have this package, and get the files of the run.

    Args:
        config: Section `pipeline`.
        file: A file in the output folder of the run.

    Raises:
        EngineError: They do not.
        ClusterError: The exchange cannot be used, by this process or by a worker.
    """
    with Exchange(config.exchange) as exchange:
        reference = exchange.offer(file.resolve())
        with user_errors(), Job(config.runner, beam_args(config)) as job:
            # The function is found in the worker by its name, and so is this package.
            _ = job | beam.Create([(reference, str(file.parent))]) | beam.Map(_look)


def _look(places: tuple[str, str]) -> None:
    reference, output = places
    if read(reference) is None:
        raise EngineError(
            f"output {output} must be a folder that the workers of the engine see; one of them does not. Put it on a "
            "file system that all machines share, or set pipeline.exchange."
        )


class Job(beam.Pipeline):
    """A Beam pipeline on a named engine.

    Args:
        runner: Name of the engine, for error messages.
        args: Beam arguments.
    """

    def __init__(self, runner: str, args: Sequence[str]) -> None:
        super().__init__(argv=list(args))
        self._engine = runner

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Runs the job and waits for its end; a context manager of Beam does so on leaving."""
        try:
            with aborting_lost_workers():
                super().__exit__(exc_type, exc_val, exc_tb)
        except Exception as error:
            if find_user_error(error) is not None:
                raise
            if is_lost_worker(error):
                raise LostWorkerError(
                    f"the workers of the job on {self._engine} must stay until it ends; one was lost. If it ran out of "
                    "memory, use fewer workers; the same command goes on."
                ) from error
            if is_race(error):
                raise PassingEngineError(
                    f"the job on {self._engine} must end; it failed at a fault of Prism, by chance on a busy "
                    "machine. The same command goes on."
                ) from error
            if MISSING_PACKAGE in str(error):
                raise EngineError(
                    f"the workers on {self._engine} must have this package; they cannot import learn2compress. Start "
                    "them with the Python that it is installed in, or an image made by `make image`."
                ) from error
            if self._engine == "direct":
                raise
            raise EngineError(
                f"the job on {self._engine} must end; it failed: {engine_reason(error)[:_MAX_REASON]}. "
                "The log of the engine has the details."
            ) from error
        except BaseException:  # an interruption
            self._cancel()
            raise

    def _cancel(self) -> None:
        result: Any = getattr(self, "result", None)
        if result is not None and not PipelineState.is_terminal(result.state):
            result.cancel()


def try_again(run: Callable[[], T]) -> T:
    """Runs a step, and again if its workers are lost or its engine fails by chance.

    What it wrote is replaced, and finished shards are kept.

    Raises:
        PassingEngineError: It failed each time.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return run()
        except LostWorkerError:
            say("a worker was lost; the step goes on with new ones")
        except PassingEngineError:
            say("the engine failed by chance; the step is done again")
    return run()


def engine_reason(error: BaseException) -> str:
    """Finds the cause in the message of an engine: the last one of Java's stack, or the first line."""
    text = str(error)
    causes = _JAVA_CAUSE.findall(text)
    if causes:
        name, message = causes[-1]
        return f"{name.rsplit('.', 1)[1]}: {message}" if message else name
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
