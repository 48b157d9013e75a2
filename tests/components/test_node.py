# SPDX-License-Identifier: Apache-2.0
"""Tests that a declared interface becomes TFX's specification, and that the executor reads it back."""

import pytest
from support.nodes import channels, configured
from tfx import types
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec, ExecutorClassSpec
from tfx.types import standard_artifacts

from learn2compress.components.node import BeamNodeExecutor, Execution, Node, NodeExecutor
from learn2compress.schemas.artifacts import StudentSet, Teacher, TeacherLogits
from learn2compress.schemas.config import DistillConfig, LossConfig

SEEN = []


class Noting(NodeExecutor):
    """Records its inputs."""

    def run(self, execution: Execution) -> None:
        SEEN.append((execution.section("distill", LossConfig), execution.uri("examples"), execution.output("students")))


class Halves(Node):
    """Declares a part of a section, and an optional parameter, input and output."""

    EXECUTOR = Noting
    SECTIONS = {"distill": LossConfig}
    PARAMETERS = {"seed": int, "student": str}
    INPUTS = {"examples": standard_artifacts.Examples, "teacher": Teacher}
    OUTPUTS = {"students": StudentSet, "teacher_logits": TeacherLogits}
    OPTIONAL = ("student", "teacher", "teacher_logits")

    @classmethod
    def makes(cls, config):
        return ("students",) if config.teacher.mode == "fixed" else cls.OUTPUTS


@pytest.fixture
def config():
    return configured(distill=DistillConfig(temperature=2.0, student_weights={"large": 3}, epochs=7))


def build(config, **scalars):
    return Halves(config, {"examples": channels(Halves)["examples"]}, **{"seed": 1, "code_version": "1"} | scalars)


def test_node_has_a_parameter_for_each_declared_field_only(config):
    node = build(config)

    assert node.id == "Halves"
    assert node.exec_properties == {
        "distill_temperature": 2.0,
        "distill_soft_weight": 0.9,
        "distill_in_place_weight": 0.0,
        "distill_in_place_from": "largest",
        "distill_label_smoothing": 0.0,
        "distill_student_weights": "{large: 3.0}",
        "seed": 1,
        "code_version": "1",
    }
    assert {name for name, one in node.SPEC_CLASS.PARAMETERS.items() if not one.optional} == {"seed", "code_version"}
    assert node.SPEC_CLASS.PARAMETERS["distill_temperature"].type is float


def test_node_has_the_outputs_that_it_makes(config):
    assert set(build(config).outputs) == {"students"}
    assert build(config).outputs["students"].type is StudentSet
    assert build(config, student=None).inputs.keys() == {"examples"}


def test_node_refuses_undeclared_inputs_and_parameters(config):
    with pytest.raises(TypeError, match="Halves must be given declared inputs and parameters only; got epochs"):
        build(config, epochs=3)
    with pytest.raises(TypeError, match="Halves must be given declared inputs and parameters only; got models"):
        Halves(config, channels(Halves) | {"models": types.Channel(type=StudentSet)}, seed=1, code_version="1")


def test_node_refuses_missing_inputs_and_parameters(config):
    with pytest.raises(ValueError, match="Missing argument 'seed'"):
        Halves(config, channels(Halves), code_version="1")
    with pytest.raises(ValueError, match="Missing argument 'examples'"):
        Halves(config, {}, seed=1, code_version="1")
    with pytest.raises(TypeError, match="Expected type <class 'int'> for parameter 'seed'"):
        build(config, seed="one")


def test_executor_reads_back_the_sections_of_the_node(config, artifact, tmp_path):
    output = artifact(StudentSet, tmp_path)
    inputs = {"examples": [artifact(standard_artifacts.Examples, "somewhere")]}

    Noting().Do(inputs, {"students": [output]}, build(config).exec_properties | {"student": None})

    assert SEEN[-1] == (LossConfig(temperature=2.0, student_weights={"large": 3}), "somewhere", output)


def test_node_is_a_beam_node_when_its_executor_uses_beam():
    class Beamed(BeamNodeExecutor):
        def run(self, execution):
            """Does nothing."""

    class Counts(Node):
        EXECUTOR = Beamed

    assert isinstance(Counts.EXECUTOR_SPEC, BeamExecutorSpec)
    assert type(Halves.EXECUTOR_SPEC) is ExecutorClassSpec
    assert Halves.EXECUTOR_SPEC.class_path == f"{__name__}.Noting"
