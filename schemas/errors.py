# SPDX-License-Identifier: Apache-2.0
"""The errors that a user can correct, and their exit statuses.

A message has the form `<what> must be <rule>; got <value>. <remedy>.` and names the file, layer, student or field. The
command line prints it as one line and exits with the error's `exit_status`.
"""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command line that only prints help does without it
    from pydantic import ValidationError

    from learn2compress.schemas.lineage import Problem

_UNPRINTED = ("Cc", "Zl", "Zp")  # control characters and line breaks, as Unicode calls them
_LONGEST = 1000
# TensorFlow, SQLite, HDF5 and Beam tell of a full disk in words alone.
_FULL = (f"[Errno {errno.ENOSPC}]", f"errno = {errno.ENOSPC}", os.strerror(errno.ENOSPC), "disk is full")


def first_fault(error: ValidationError) -> str:
    """Describes the first wrong field of a document and the rule that it violates."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'its JSON'}: {first['msg']}"


class Learn2CompressError(Exception):
    """Base class of the errors that a user can correct. Its message is one line, whatever a quoted value holds."""

    exit_status = 2

    def __str__(self) -> str:
        # Line breaks, and signs that a terminal would obey, come from files, records and options that others wrote.
        text = super().__str__()
        if len(text) > _LONGEST:  # a library quotes what it could not read; the remedy stands at the end
            text = f"{text[: _LONGEST - 301]}…{text[-300:]}"
        return "".join(" " if unicodedata.category(sign) in _UNPRINTED else sign for sign in text)


class ConfigError(Learn2CompressError):
    """A configuration value, key or file is wrong."""


class UnitError(ConfigError, ValueError):
    """A size or a count has an unknown unit; also a ValueError, so that a typed configuration names the field."""


class DataError(Learn2CompressError):
    """The user's examples cannot be read or do not fit the task."""


class TeacherError(Learn2CompressError):
    """The user's model cannot be loaded, or does not fit the data."""


class FamilyError(Learn2CompressError):
    """The configured students cannot be built: a budget, a count or a shape cannot be reached."""


class StudentModuleError(Learn2CompressError):
    """User-defined students cannot be built, or do not fit the data."""


class EngineError(Learn2CompressError):
    """The engine of the Beam steps cannot be reached, or ended a job."""


class PassingEngineError(EngineError):
    """A job failed for a reason that may not occur again, so that the step is tried again."""


class LostWorkerError(PassingEngineError):
    """A worker of a Beam job ended in the middle of its work, so that the job failed."""


class PassError(Learn2CompressError):
    """A pruning pass is not installed, cannot be loaded, or violates its contract."""


class TrainingError(Learn2CompressError):
    """Training cannot continue: the loss is not finite, or a checkpoint is of another family."""


class ModelFileError(Learn2CompressError):
    """A .tflite file is unreadable, truncated, or not of the stated kind."""


class OutputError(Learn2CompressError):
    """The output folder cannot be used: it contains another run, or the disk is full."""


class UnsafePathError(Learn2CompressError, ValueError):
    """A path from outside leads out of its folder. A ValueError too, so that a typed document names the field."""


class SelectionError(Learn2CompressError):
    """No candidate satisfies the limits."""

    exit_status = 3


class LineageError(Learn2CompressError):
    """A record, a database or a chain of provenance cannot be read."""


class UnknownFileError(LineageError):
    """No record lists the bytes of a file."""

    exit_status = 3


class TamperedError(LineageError):
    """Records were changed.

    Attributes:
        problems: What was changed.
    """

    exit_status = 4

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = list(problems)


class DeviceError(Learn2CompressError):
    """A phone cannot be reached, or its benchmark fails."""


class ClusterError(Learn2CompressError):
    """A cluster or its object store cannot be reached, or refuses a request or a pipeline."""


class RunFailedError(ClusterError):
    """A run on a cluster has failed or was cancelled."""

    exit_status = 3


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Iterate over an error, its cause, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def full_disk(error: BaseException) -> OutputError | None:
    """Build the error to report instead of one that a full disk or an exhausted quota caused; None for others."""
    for cause in causes(error):
        by_number = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        if by_number or any(words in str(cause) for words in _FULL):
            number = cause.errno if isinstance(cause, OSError) and cause.errno else errno.ENOSPC
            return OutputError(
                f"the disk must have room for the output; got: {os.strerror(number)}. "
                "Free some space; the same command then goes on."
            )
    return None
