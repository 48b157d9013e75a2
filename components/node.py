# SPDX-License-Identifier: Apache-2.0
"""The base of the nodes: an interface that is declared as data, and an executor whose body is a few steps.

A node declares the sections of the configuration, the scalar parameters, the inputs and the outputs that it has. TFX's
ComponentSpec is made of that. A section becomes scalar parameters, one a field (schemas/parameters.py); a node declares
the smallest section that holds what it takes, so that no other field's change runs it again.
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
    """One execution of a node, as its executor sees it.

    Attributes:
        inputs: Input artifacts by key.
        outputs: Output artifacts by key.
        parameters: Scalars by name; TFX gives None for an optional one that was left out.
    """

    def __init__(self, inputs: Artifacts, outputs: Artifacts, parameters: Mapping[str, Any]) -> None:
        self.inputs, self.outputs, self.parameters = inputs, outputs, parameters

    def section(self, name: str, kind: type[S]) -> S:
        """Reads a section back from the parameters."""
        return parameters.decode(kind, name, self.parameters)

    def uri(self, key: str) -> str:
        """Finds the folder of an input."""
        return artifact_utils.get_single_uri(self.inputs[key])

    def output(self, key: str) -> types.Artifact:
        """Finds an output."""
        return artifact_utils.get_single_instance(self.outputs[key])


class _Runs:
    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Mapping[str, Any]) -> None:
        """Executes the node; TFX calls this."""
        self.run(Execution(input_dict, output_dict, exec_properties))

    @abstractmethod
    def run(self, execution: Execution) -> None:
        """Does the node's work."""


class NodeExecutor(_Runs, base_executor.BaseExecutor):
    """An executor in this process."""


class BeamNodeExecutor(_Runs, base_beam_executor.BaseBeamExecutor):
    """An executor that makes Beam pipelines of its own."""


class Node(base_component.BaseComponent):
    """A TFX component of declared data.

    Attributes:
        EXECUTOR: Class of the executor; ML Metadata and Kubeflow know it by its import path.
        SECTIONS: By name in the configuration: what the node takes of that section.
        PARAMETERS: By name: type of a further parameter. Every node has `code_version` as well, since TFX's cache key
            covers no code.
        INPUTS: By key: artifact type.
        OUTPUTS: By key: artifact type.
        OPTIONAL: Parameters, inputs and outputs that may be left out.
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
            config: The configuration, of which the node takes the sections that it declares.
            inputs: Channels by key.
            **scalars: The declared parameters, and `code_version`, which changes when the node's results do; None: left
                out.

        Raises:
            TypeError: An input or a parameter is not declared: TFX would leave it out in silence.
        """
        values = self.encode(**{name: getattr(config, name) for name in self.SECTIONS})
        values |= {name: value for name, value in scalars.items() if value is not None}
        undeclared = sorted({*inputs, *values} - {*self.SPEC_CLASS.INPUTS, *self.SPEC_CLASS.PARAMETERS})
        if undeclared:
            raise TypeError(f"{type(self).__name__} must be given what it declares; got {', '.join(undeclared)}.")
        outputs = {key: types.Channel(type=self.OUTPUTS[key]) for key in self.makes(config)}
        super().__init__(spec=self.SPEC_CLASS(**values, **inputs, **outputs))

    @classmethod
    def encode(cls, **sections: Section) -> dict[str, parameters.Scalar]:
        """Writes sections as the node's parameters: of each, the part that the node declares."""
        return parameters.encode(**{name: cls.SECTIONS[name].part_of(given) for name, given in sections.items()})

    @classmethod
    def makes(cls, config: Config) -> Collection[str]:  # noqa: ARG003 - a node with optional outputs looks at it
        """Names the outputs that there are under a configuration."""
        return cls.OUTPUTS


def _spec_class(node: type[Node]) -> type[ComponentSpec]:
    """Declares the interface to TFX."""
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
