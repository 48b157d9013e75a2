# SPDX-License-Identifier: Apache-2.0
"""How the workers of a multi-worker training learn what to train: the chief, whose run it is, tells them.

Only the chief runs the DAG. A node that trains first tells the other workers what it was given; each executes the same
executor on the same inputs, meets the chief in every step, and leaves everything else to it (pipeline/worker.py).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tfx import types

from learn2compress.compression.training.distribution import Distribution


@dataclass(frozen=True)
class Assignment:
    """What a worker is to take part in.

    Attributes:
        node: Whose executor to execute; empty when the run is done.
        inputs: By key: the folder of each input artifact.
        parameters: The execution's.
    """

    node: str
    inputs: dict[str, list[str]]
    parameters: dict[str, Any]


def call_workers(
    distribution: Distribution, node: str, inputs: Mapping[str, list[types.Artifact]], parameters: Mapping[str, Any]
) -> None:
    """Tells the other workers what is trained next; nothing where there are none, and nothing for them to do."""
    uris = {key: [artifact.uri for artifact in artifacts] for key, artifacts in inputs.items()}
    _tell(distribution, Assignment(node, uris, dict(parameters)))


def dismiss_workers(distribution: Distribution) -> None:
    """Tells the other workers that the run is done."""
    _tell(distribution, Assignment("", {}, {}))


def next_assignment(distribution: Distribution) -> Assignment:
    """Waits until the chief has something to train.

    Raises:
        TrainingError: The chief is gone.
    """
    return Assignment(**json.loads(distribution.broadcast(None)))


def _tell(distribution: Distribution, assignment: Assignment) -> None:
    if distribution.cluster is not None and distribution.is_chief:
        distribution.broadcast(json.dumps(asdict(assignment)).encode())
