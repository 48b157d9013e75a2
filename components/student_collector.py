# SPDX-License-Identifier: Apache-2.0
"""Collects in a TFX node the students that were pruned and quantized in separate tasks.

Inputs: a `StudentSet` and an `OnDeviceModelSet` for each student. Outputs: one of each with all students, as Pruner and
Quantizer write them for the whole family, except that the students no longer share parameters. Files are copied
unchanged. The node exists only with `kubeflow.fan_out`; the lineage names the task that made a file, and this node as
one that copied it.
"""

from collections.abc import Mapping

from tfx import types
from tfx.types import artifact_utils

from learn2compress.components.execution.properties import describe_models, describe_students
from learn2compress.components.node import Artifacts, Execution, Node, NodeExecutor
from learn2compress.compression.family.sizing import NAMED_SIZES
from learn2compress.compression.students.collection import collect_models, collect_students
from learn2compress.schemas.artifacts import OnDeviceModelSet, StudentSet
from learn2compress.schemas.config import Config
from learn2compress.schemas.errors import ConfigError

_PRUNED, _MODELS = "pruned_", "models_"


class StudentCollectorExecutor(NodeExecutor):
    """Copies the files, and merges the manifests."""

    def run(self, execution: Execution) -> None:
        students, models = execution.output("pruned_students"), execution.output("models")
        manifest = collect_students(_folders(execution.inputs, _PRUNED).values(), students.uri)
        describe_students(students, manifest)
        names = [student.name for student in manifest.students]
        describe_models(models, collect_models(_folders(execution.inputs, _MODELS), models.uri, names))


class StudentCollector(Node):
    """Makes one `StudentSet` and one `OnDeviceModelSet` of all students, from two inputs for each named student."""

    EXECUTOR = StudentCollectorExecutor
    INPUTS = {
        **{f"{_PRUNED}{name}": StudentSet for name in NAMED_SIZES},
        **{f"{_MODELS}{name}": OnDeviceModelSet for name in NAMED_SIZES},
    }
    OUTPUTS = {"pruned_students": StudentSet, "models": OnDeviceModelSet}
    OPTIONAL = tuple(INPUTS)

    def __init__(
        self,
        config: Config,
        pruned: Mapping[str, types.BaseChannel],
        models: Mapping[str, types.BaseChannel],
        code_version: str,
    ) -> None:
        """Builds the node.

        Args:
            config: Configuration of the run.
            pruned: Channels of the pruned students by name.
            models: Channels of the students' files by name.
            code_version: Digest of the code on which results depend.

        Raises:
            ConfigError: The node has no inputs for the name of a student.
        """
        unknown = [name for name in pruned if name not in NAMED_SIZES]
        if unknown:
            raise ConfigError(
                f"students must be called {', '.join(NAMED_SIZES)} with kubeflow.fan_out; got {', '.join(unknown)}. "
                "Give one of these names its size in students.sizes, or leave kubeflow.fan_out out."
            )
        inputs = {f"{_PRUNED}{name}": channel for name, channel in pruned.items()}
        inputs |= {f"{_MODELS}{name}": channel for name, channel in models.items()}
        super().__init__(config, inputs, code_version=code_version)


def _folders(inputs: Artifacts, kind: str) -> dict[str, str]:
    """Collects the folders of the inputs of one kind by student."""
    return {
        key.removeprefix(kind): artifact_utils.get_single_uri(artifacts)
        for key, artifacts in inputs.items()
        if key.startswith(kind) and artifacts
    }
