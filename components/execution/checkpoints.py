# SPDX-License-Identifier: Apache-2.0
"""Where a node that trains keeps its checkpoint: a place that the next try of the same work finds again.

TFX gives each execution a new folder, so a checkpoint lies beside them, named by the parameters and the contents of the
inputs: another configuration, teacher or data set never goes on from it.
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
        output: An output artifact, at <pipeline root>/<node>/<key>/<execution>.
        inputs: The input artifacts; their manifests name their contents by digest.
        parameters: The execution's.
    """
    parts = [f"{key}={value!r}" for key, value in sorted(parameters.items())]
    parts += [
        f"{key}:{manifest_sha256(artifact.uri)}" for key, artifacts in sorted(inputs.items()) for artifact in artifacts
    ]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return Path(output.uri).parent.parent / "checkpoints" / f"{key}.npz"
