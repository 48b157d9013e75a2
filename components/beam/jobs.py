# SPDX-License-Identifier: Apache-2.0
"""Runs a Beam job of a node so that it is cancelled if the run is interrupted, and ends with one line if it fails.

The arguments of the runner come from here and not from the DAG: TFX's cache key contains the arguments of a node, and
the same work on another engine, or with more workers, would otherwise not be found in the cache.
"""

import re
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import apache_beam as beam
from apache_beam.runners.runner import PipelineState

from learn2compress.components.beam.options import find_user_error
from learn2compress.schemas.errors import EngineError

_MAX_REASON = 200

# Java's stack ends with the cause that counts.
_JAVA_CAUSE = re.compile(r"^(?:Caused by: )?((?:[a-z]\w*\.)+[A-Z]\w*(?:Exception|Error))(?:: (.*))?$", re.MULTILINE)


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
            super().__exit__(exc_type, exc_val, exc_tb)
        except Exception as error:
            if self._engine == "direct" or find_user_error(error) is not None:
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


def engine_reason(error: BaseException) -> str:
    """Finds the cause in the message of an engine: the last one of Java's stack, or the first line."""
    text = str(error)
    causes = _JAVA_CAUSE.findall(text)
    if causes:
        name, message = causes[-1]
        return f"{name.rsplit('.', 1)[1]}: {message}" if message else name
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
