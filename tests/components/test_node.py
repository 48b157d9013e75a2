# SPDX-License-Identifier: Apache-2.0
"""An interface that is declared as data becomes TFX's, and comes out again in the executor."""

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
    """Takes down what it is given."""

    def run(self, execution: Execution) -> None:
        SEEN.append((execution.section("distill", LossConfig), execution.uri("examples"), execution.output("students")))


class Halves(Node):
    """Takes a part of a section, and has something optional of each kind."""

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


def test_node_has_a_parameter_for_each_field_that_it_declares_and_no_other(config):
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


def test_node_refuses_what_it_does_not_declare(config):
    with pytest.raises(TypeError, match="Halves must be given what it declares; got epochs"):
        build(config, epochs=3)
    with pytest.raises(TypeError, match="Halves must be given what it declares; got models"):
        Halves(config, channels(Halves) | {"models": types.Channel(type=StudentSet)}, seed=1, code_version="1")


def test_node_refuses_to_be_built_without_what_it_needs(config):
    with pytest.raises(ValueError, match="Missing argument 'seed'"):
        Halves(config, channels(Halves), code_version="1")
    with pytest.raises(ValueError, match="Missing argument 'examples'"):
        Halves(config, {}, seed=1, code_version="1")
    with pytest.raises(TypeError, match="Expected type <class 'int'> for parameter 'seed'"):
        build(config, seed="one")


def test_executor_reads_back_what_the_node_was_given(config, artifact, tmp_path):
    output = artifact(StudentSet, tmp_path)
    inputs = {"examples": [artifact(standard_artifacts.Examples, "somewhere")]}

    Noting().Do(inputs, {"students": [output]}, build(config).exec_properties | {"student": None})

    assert SEEN[-1] == (LossConfig(temperature=2.0, student_weights={"large": 3}), "somewhere", output)


def test_node_runs_with_beam_where_its_executor_does():
    class Beamed(BeamNodeExecutor):
        def run(self, execution):
            """Does nothing."""

    class Counts(Node):
        EXECUTOR = Beamed

    assert isinstance(Counts.EXECUTOR_SPEC, BeamExecutorSpec)
    assert type(Halves.EXECUTOR_SPEC) is ExecutorClassSpec
    assert Halves.EXECUTOR_SPEC.class_path == f"{__name__}.Noting"
