# SPDX-License-Identifier: Apache-2.0
"""What was decided once for a training, so that the next try of the same work and every worker go by it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from learn2compress.compression.training.distribution import Distribution
from learn2compress.schemas.errors import TrainingError, first_fault

R = TypeVar("R", bound=BaseModel)


def remembered(path: Path, kind: type[R], make: Callable[[], R], distribution: Distribution) -> R:
    """What was decided in an earlier try of the same work, or else decided now and written down: by the chief, for all.

    Raises:
        TrainingError: What was written down is damaged.
    """
    if not distribution.is_chief:
        return kind.model_validate_json(distribution.share(None))
    record = _remembered_here(path, kind, make)
    distribution.share(record.model_dump_json().encode())
    return record


def _remembered_here(path: Path, kind: type[R], make: Callable[[], R]) -> R:
    if path.exists():
        try:
            return kind.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise TrainingError(f"{path} must be whole; {first_fault(error)}. Delete it to decide anew.") from error
    record = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(record.model_dump_json(), encoding="utf-8")
    os.replace(partial, path)
    return record
