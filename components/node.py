# SPDX-License-Identifier: Apache-2.0
"""Defines the base of the nodes: an interface declared as data, and an executor with a short body.

A node declares the sections of the configuration, scalar parameters, inputs and outputs that it has. TFX's
ComponentSpec is generated from this declaration. A section becomes scalar parameters, one for each field
(schemas/parameters.py); a node declares the smallest section with the fields that it uses, so that a change of another
field does not run it again.
"""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from types import new_class
from typing import Any, ClassVar, TypeVar

from tfx import types
from tfx.dsl.components.base import base_beam_executor, base_component, base_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from learn2compress.schemas import parameters
from learn2compress.schemas.config import Config, Section

S = TypeVar("S", bound=Section)
Artifacts = Mapping[str, list[types.Artifact]]


class Execution:
    """One execution of a node: its inputs, outputs and parameters.

    Attributes:
        inputs: Input artifacts by key.
        outputs: Output artifacts by key.
        parameters: Scalars by name; None for an optional one that was left out.
    """

    def __init__(self, inputs: Artifacts, outputs: Artifacts, parameters: Mapping[str, Any]) -> None:
        self.inputs, self.outputs, self.parameters = inputs, outputs, parameters

    def section(self, name: str, kind: type[S]) -> S:
        """Reads a section back from the parameters."""
        return parameters.decode(kind, name, self.parameters)

    def uri(self, key: str) -> str:
        """Returns the folder of the one input artifact of a key."""
        return artifact_utils.get_single_uri(self.inputs[key])

    def output(self, key: str) -> types.Artifact:
        """Returns the one output artifact of a key."""
        return artifact_utils.get_single_instance(self.outputs[key])


class _Runs:
    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Mapping[str, Any]) -> None:
        """Executes the node; TFX calls this."""
        self.run(Execution(input_dict, output_dict, exec_properties))

    @abstractmethod
    def run(self, execution: Execution) -> None:
        """Does the node's work."""


class NodeExecutor(_Runs, base_executor.BaseExecutor):
    """An executor that runs in this process only."""


class BeamNodeExecutor(_Runs, base_beam_executor.BaseBeamExecutor):
    """An executor that runs Beam pipelines."""


class Node(base_component.BaseComponent):
    """A TFX component whose interface is declared as data.

    Attributes:
        EXECUTOR: Class of the executor; ML Metadata and Kubeflow record its import path.
        SECTIONS: Sections of the configuration that the node uses, by name; each is the part with the fields it needs.
        PARAMETERS: Types of further parameters by name. Every node also has `code_version`, since TFX's cache key
            covers no code.
        INPUTS: Artifact types of the inputs by key.
        OUTPUTS: Artifact types of the outputs by key.
        OPTIONAL: Names of parameters, inputs and outputs that may be left out.
    """

    EXECUTOR: ClassVar[type[base_executor.BaseExecutor]]
    SECTIONS: ClassVar[Mapping[str, type[Section]]] = {}
    PARAMETERS: ClassVar[Mapping[str, type[parameters.Scalar]]] = {}
    INPUTS: ClassVar[Mapping[str, type[types.Artifact]]] = {}
    OUTPUTS: ClassVar[Mapping[str, type[types.Artifact]]] = {}
    OPTIONAL: ClassVar[Collection[str]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.SPEC_CLASS = _spec_class(cls)
        is_beam = issubclass(cls.EXECUTOR, base_beam_executor.BaseBeamExecutor)
        kind = executor_spec.BeamExecutorSpec if is_beam else executor_spec.ExecutorClassSpec
        cls.EXECUTOR_SPEC = kind(cls.EXECUTOR)

    def __init__(
        self, config: Config, inputs: Mapping[str, types.BaseChannel], **scalars: parameters.Scalar | None
    ) -> None:
        """Builds the node.

        Args:
            config: Configuration of the run, with the declared sections.
            inputs: Channels by key.
            **scalars: Values of the declared parameters and of `code_version`, the digest of the code on which results
                depend; None if left out.

        Raises:
            TypeError: An input or a parameter is not declared; TFX would ignore it silently.
        """
        values = self.encode(**{name: getattr(config, name) for name in self.SECTIONS})
        values |= {name: value for name, value in scalars.items() if value is not None}
        undeclared = sorted({*inputs, *values} - {*self.SPEC_CLASS.INPUTS, *self.SPEC_CLASS.PARAMETERS})
        if undeclared:
            raise TypeError(
                f"{type(self).__name__} must be given declared inputs and parameters only; got {', '.join(undeclared)}."
            )
        outputs = {key: types.Channel(type=self.OUTPUTS[key]) for key in self.makes(config)}
        super().__init__(spec=self.SPEC_CLASS(**values, **inputs, **outputs))

    @classmethod
    def encode(cls, **sections: Section) -> dict[str, parameters.Scalar]:
        """Writes the declared parts of sections as the node's scalar parameters."""
        return parameters.encode(**{name: cls.SECTIONS[name].part_of(given) for name, given in sections.items()})

    @classmethod
    def makes(cls, config: Config) -> Collection[str]:  # noqa: ARG003 - for nodes with optional outputs
        """Names the outputs that exist under a configuration."""
        return cls.OUTPUTS


def _spec_class(node: type[Node]) -> type[ComponentSpec]:
    """Makes TFX's specification of a node's interface."""
    optional = frozenset(node.OPTIONAL)
    sections = parameters.scalar_types(**node.SECTIONS)
    own = {**node.PARAMETERS, "code_version": str}
    interface = {
        "PARAMETERS": {
            **{name: ExecutionParameter(type=kind, optional=True) for name, kind in sections.items()},
            **{name: ExecutionParameter(type=kind, optional=name in optional) for name, kind in own.items()},
        },
        "INPUTS": {key: ChannelParameter(type=kind, optional=key in optional) for key, kind in node.INPUTS.items()},
        "OUTPUTS": {key: ChannelParameter(type=kind, optional=key in optional) for key, kind in node.OUTPUTS.items()},
        "__module__": node.__module__,
        "__doc__": f"The interface of {node.__name__}.",
    }
    return new_class(f"{node.__name__}Spec", (ComponentSpec,), exec_body=lambda body: body.update(interface))
