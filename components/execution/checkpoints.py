# SPDX-License-Identifier: Apache-2.0
"""Names the checkpoint of a node that trains, so that the next attempt at the same work finds it.

TFX creates a new folder for each execution, so the checkpoint lies beside these folders. Its name is a digest of the
parameters and of the inputs' contents: a run with another configuration, teacher or data set never resumes from it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx import types

from learn2compress.schemas.manifests import manifest_sha256


def checkpoint_path(
    output: types.Artifact, inputs: Mapping[str, list[types.Artifact]], parameters: Mapping[str, Any]
) -> Path:
    """Names the checkpoint of an execution.

    Args:
        output: Output artifact, at <pipeline root>/<node>/<key>/<execution>.
        inputs: Input artifacts by key; their manifests name their contents by digest.
        parameters: Parameters of the execution.

    Returns:
        <pipeline root>/<node>/checkpoints/<digest>.npz
    """
    parts = [f"{key}={value!r}" for key, value in sorted(parameters.items())]
    parts += [
        f"{key}:{manifest_sha256(artifact.uri)}" for key, artifacts in sorted(inputs.items()) for artifact in artifacts
    ]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return Path(output.uri).parent.parent / "checkpoints" / f"{key}.npz"
