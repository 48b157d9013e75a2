# SPDX-License-Identifier: Apache-2.0
"""Coordinates the workers of a multi-worker training: the chief broadcasts an assignment for each training.

Only the chief runs the DAG. A node that trains first broadcasts its inputs and parameters to the other workers. Each of
them runs the same executor on the same inputs and takes part in every step, and only the chief writes outputs
(pipeline/worker.py).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tfx import types

from learn2compress.compression.training.devices.distribution import Distribution


@dataclass(frozen=True)
class Assignment:
    """A training in which a worker takes part.

    Attributes:
        node: Name of the node whose executor is run; empty at the end of the run.
        inputs: Folders of the input artifacts by key.
        parameters: Parameters of the execution.
    """

    node: str
    inputs: dict[str, list[str]]
    parameters: dict[str, Any]


def dispatch_training(
    distribution: Distribution, node: str, inputs: Mapping[str, list[types.Artifact]], parameters: Mapping[str, Any]
) -> None:
    """Dispatches a training to the other workers; does nothing in a worker, or if there are no workers.

    Args:
        distribution: Distribution of the training over processes.
        node: Name of the node that trains.
        inputs: Input artifacts of its execution by key.
        parameters: Parameters of its execution.
    """
    uris = {key: [artifact.uri for artifact in artifacts] for key, artifacts in inputs.items()}
    _broadcast(distribution, Assignment(node, uris, dict(parameters)))


def dismiss_workers(distribution: Distribution) -> None:
    """Dispatches the end of the run to the other workers, so that they exit."""
    _broadcast(distribution, Assignment("", {}, {}))


def next_assignment(distribution: Distribution) -> Assignment:
    """Waits for the chief's next assignment.

    Raises:
        TrainingError: The connection to the chief was lost.
    """
    return Assignment(**json.loads(distribution.broadcast(None)))


def _broadcast(distribution: Distribution, assignment: Assignment) -> None:
    if distribution.cluster is not None and distribution.is_chief:
        distribution.broadcast(json.dumps(asdict(assignment)).encode())
