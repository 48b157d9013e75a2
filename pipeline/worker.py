# SPDX-License-Identifier: Apache-2.0
"""Runs a worker of a multi-worker run other than the chief, which takes part in the trainings only.

It reads the examples, the teacher's logits and the students from the chief's output folder, which must therefore be on
a file system that all workers share, under the same path.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from tfx.types.artifact import Artifact

from learn2compress.components.distiller import Distiller
from learn2compress.components.execution.coordination import Assignment, next_assignment
from learn2compress.components.node import Node
from learn2compress.components.pruner import Pruner
from learn2compress.components.quantizer import Quantizer
from learn2compress.compression.training.devices.distribution import open_distribution
from learn2compress.schemas.progress import say

_NODES: dict[str, type[Node]] = {"Distiller": Distiller, "Pruner": Pruner, "Quantizer": Quantizer}


def take_part() -> tuple[str, ...]:
    """Takes part in the trainings that the chief dispatches, until its run ends.

    Returns:
        The names of the nodes that were trained, in order.

    Raises:
        Learn2CompressError: A user error that the chief reports as well, or the connection to the chief was lost.
    """
    distribution = open_distribution("multi_worker")
    trained: list[str] = []
    if (cluster := distribution.cluster) is not None:
        say(f"Worker {cluster.index} of {len(cluster.addresses)} waits for the chief's trainings")
    while (assignment := next_assignment(distribution)).node:
        say(f"{assignment.node}: takes part in the training")
        _execute(assignment)
        trained.append(assignment.node)
    return tuple(trained)


def _execute(assignment: Assignment) -> None:
    node = _NODES[assignment.node]
    with TemporaryDirectory() as scratch:
        inputs = {key: [_artifact(node.INPUTS[key], uri) for uri in uris] for key, uris in assignment.inputs.items()}
        outputs = {key: [_artifact(kind, str(Path(scratch, key, "0")))] for key, kind in node.OUTPUTS.items()}
        node.EXECUTOR().Do(inputs, outputs, assignment.parameters)


def _artifact(kind: type[Artifact], uri: str) -> Artifact:
    artifact = kind()
    artifact.uri = uri
    return artifact
