# SPDX-License-Identifier: Apache-2.0
"""A worker that is not the chief: it takes part in the run's trainings, and in nothing else.

It reads the examples, the teacher's logits and the students where the chief's run has put them, so the output folder
must be on a file system that all workers see, under the same path.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from tfx.types.artifact import Artifact

from learn2compress.components.distiller import Distiller
from learn2compress.components.execution.coordination import Assignment, next_assignment
from learn2compress.components.node import Node
from learn2compress.components.pruner import Pruner
from learn2compress.components.quantizer import Quantizer
from learn2compress.compression.training.distribution import open_distribution
from learn2compress.schemas.progress import say

_NODES: dict[str, type[Node]] = {"Distiller": Distiller, "Pruner": Pruner, "Quantizer": Quantizer}


def take_part() -> tuple[str, ...]:
    """Trains along whatever the chief trains, until its run is done.

    Returns:
        The nodes that were trained, in their order.

    Raises:
        Learn2CompressError: What the chief is told as well, or the chief is gone.
    """
    distribution = open_distribution("multi_worker")
    trained: list[str] = []
    if (cluster := distribution.cluster) is not None:
        say(f"Worker {cluster.index} of {len(cluster.addresses)} waits for the chief's trainings")
    while (assignment := next_assignment(distribution)).node:
        say(f"{assignment.node}: trains along")
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
