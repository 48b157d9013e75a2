# SPDX-License-Identifier: Apache-2.0
"""Where a node that trains keeps its checkpoint: a place that the next try of the same work finds again.

TFX gives each execution a new folder, so a checkpoint lies beside them, named by the parameters and the contents of the
inputs: another configuration, teacher or data set never goes on from it.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from tfx import types

from learn2compress.compression.training.distribution import Distribution
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import TrainingError, first_fault
from learn2compress.schemas.manifests import MANIFEST

R = TypeVar("R", bound=BaseModel)


def checkpoint_path(
    output: types.Artifact, inputs: Mapping[str, list[types.Artifact]], parameters: Mapping[str, Any]
) -> Path:
    """Names the checkpoint of an execution.

    Args:
        output: An output artifact, at <pipeline root>/<node>/<key>/<execution>.
        inputs: The input artifacts; their manifests name their contents by digest.
        parameters: The execution's.
    """
    parts = [f"{key}={value!r}" for key, value in sorted(parameters.items())]
    parts += [
        f"{key}:{file_sha256(Path(artifact.uri) / MANIFEST)}"
        for key, artifacts in sorted(inputs.items())
        for artifact in artifacts
    ]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return Path(output.uri).parent.parent / "checkpoints" / f"{key}.npz"


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
