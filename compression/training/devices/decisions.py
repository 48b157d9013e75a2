# SPDX-License-Identifier: Apache-2.0
"""Stores a decision of a training in a file, so that every worker and a resumed training use the same one."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from learn2compress.compression.training.devices.distribution import Distribution
from learn2compress.schemas.errors import TrainingError, first_fault
from learn2compress.schemas.files.whole import write_whole

R = TypeVar("R", bound=BaseModel)


def remembered(path: Path, kind: type[R], make: Callable[[], R], distribution: Distribution) -> R:
    """Read a stored decision, or make and store it; the chief does this and broadcasts the result to all workers.

    Args:
        path: JSON file of the decision; it remains from an earlier attempt at the same work.
        kind: Type of the decision.
        make: Function that makes the decision if there is no file.
        distribution: The workers that train together.

    Raises:
        TrainingError: The file is damaged.
    """
    if not distribution.is_chief:
        return kind.model_validate_json(distribution.broadcast(None))
    record = _remembered_here(path, kind, make)
    distribution.broadcast(record.model_dump_json().encode())
    return record


def _remembered_here(path: Path, kind: type[R], make: Callable[[], R]) -> R:
    if path.exists():
        try:
            return kind.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise TrainingError(
                f"{path} must be whole; {first_fault(error)}. Delete it to repeat the decision."
            ) from error
    record = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, record.model_dump_json())
    return record
