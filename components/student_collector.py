# SPDX-License-Identifier: Apache-2.0
"""The node that brings together what a Pruner and a Quantizer made of each student in tasks of its own.

Enters: for each student, its `StudentSet` and its `OnDeviceModelSet`. Leaves: one of each with all students, as a
Pruner and a Quantizer of the whole family leave them, but for the family: the students share no parameters any more.
Files are copied as they are. It is there with `kubeflow.fan_out` alone; the lineage names the task that made a file,
and this node as one that copied it.
"""

from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec

from learn2compress.components.execution.properties import describe_models, describe_students
from learn2compress.compression.family.sizing import NAMED_SIZES
from learn2compress.compression.students.collection import collect_models, collect_students
from learn2compress.schemas.artifacts import OnDeviceModelSet, StudentSet
from learn2compress.schemas.errors import ConfigError

_PRUNED, _MODELS = "pruned_", "models_"


class StudentCollectorSpec(component_spec.ComponentSpec):
    """The node's interface: inputs for each name that a student may have."""

    PARAMETERS = {"code_version": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        **{f"{_PRUNED}{name}": component_spec.ChannelParameter(type=StudentSet, optional=True) for name in NAMED_SIZES},
        **{
            f"{_MODELS}{name}": component_spec.ChannelParameter(type=OnDeviceModelSet, optional=True)
            for name in NAMED_SIZES
        },
    }
    OUTPUTS = {
        "pruned_students": component_spec.ChannelParameter(type=StudentSet),
        "models": component_spec.ChannelParameter(type=OnDeviceModelSet),
    }


class StudentCollectorExecutor(base_executor.BaseExecutor):
    """Copies the files, and merges the rest."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],  # noqa: ARG002
    ) -> None:
        students = artifact_utils.get_single_instance(output_dict["pruned_students"])
        manifest = collect_students(_folders(input_dict, _PRUNED).values(), students.uri)
        describe_students(students, manifest)
        names = [student.name for student in manifest.students]
        models = artifact_utils.get_single_instance(output_dict["models"])
        describe_models(models, collect_models(_folders(input_dict, _MODELS), models.uri, names))


class StudentCollector(base_component.BaseComponent):
    """`StudentSet` and `OnDeviceModelSet`: all students in one of each."""

    SPEC_CLASS = StudentCollectorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(StudentCollectorExecutor)

    def __init__(
        self, pruned: Mapping[str, types.BaseChannel], models: Mapping[str, types.BaseChannel], code_version: str = ""
    ) -> None:
        """Builds the node.

        Args:
            pruned: By student, of its Pruner.
            models: By student, of its Quantizer.
            code_version: Changes when the node's results do.

        Raises:
            ConfigError: A student has a name that the node has no inputs for.
        """
        # TFX would leave out what is not declared, and the student with it.
        unknown = [name for name in pruned if name not in NAMED_SIZES]
        if unknown:
            raise ConfigError(
                f"students must be called {', '.join(NAMED_SIZES)} with kubeflow.fan_out; got {', '.join(unknown)}. "
                "Give one of these names its size in students.sizes, or leave kubeflow.fan_out out."
            )
        spec = StudentCollectorSpec(
            **{f"{_PRUNED}{name}": channel for name, channel in pruned.items()},
            **{f"{_MODELS}{name}": channel for name, channel in models.items()},
            code_version=code_version,
            pruned_students=types.Channel(type=StudentSet),
            models=types.Channel(type=OnDeviceModelSet),
        )
        super().__init__(spec=spec)


def _folders(inputs: Mapping[str, list[types.Artifact]], kind: str) -> dict[str, str]:
    """The folders of the inputs of a kind, by student."""
    return {
        key.removeprefix(kind): artifact_utils.get_single_uri(artifacts)
        for key, artifacts in inputs.items()
        if key.startswith(kind) and artifacts
    }
