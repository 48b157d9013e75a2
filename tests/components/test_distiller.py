# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from tfx import types
from tfx.types import standard_artifacts

from learn2compress.components import distiller, parameters
from learn2compress.components.distiller import Distiller, DistillerExecutor
from learn2compress.compression.family import FamilySpec, family_costs
from learn2compress.compression.family_model import cut_students
from learn2compress.compression.progress import listening
from learn2compress.compression.student_files import load_model, read_curves
from learn2compress.schemas.artifacts import StudentSet, Teacher, TeacherLogits
from learn2compress.schemas.config import DistillConfig, StudentsConfig
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.manifests import StudentSetManifest, Task, TeacherManifest, read_manifest, write_manifest
from learn2compress.schemas.scaling import Scaling

STUDENTS = StudentsConfig(sizes={"a": {"size_bytes": "6KB"}, "b": {"size_bytes": "14KB"}})
DISTILL = DistillConfig(epochs=2, batch_size=32, learning_rate=2e-2)


@pytest.fixture(scope="module")
def inputs(stripes_artifacts, stripes, artifact, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    manifest = TeacherManifest(
        task=Task(input_shape=stripes.SHAPE, classes=stripes.CLASSES),
        model="model/t.keras",
        format="keras3",
        sha256="7" * 64,
        bytes=1,
        output="logits",
        scaling=Scaling.named("none"),
        parameters=None,
        macs=None,
        trainable=False,
        accuracy={"validation": 1.0, "test": 1.0},
    )
    write_manifest(folder, manifest)
    return {
        "examples": [artifact(standard_artifacts.Examples, stripes_artifacts[0])],
        "teacher": [artifact(Teacher, folder)],
        "teacher_logits": [artifact(TeacherLogits, stripes_artifacts[1])],
    }


def execute(inputs, output, students=STUDENTS, distill=DISTILL):
    properties = parameters.encode(students=students, distill=distill)
    DistillerExecutor().Do(inputs, {"students": [output]}, {**properties, "seed": 3, "code_version": "1"})


@pytest.fixture(scope="module")
def distilled_here(inputs, artifact, tmp_path_factory):
    """The node executed once without a runner: its output artifact, and what it said."""
    output = artifact(StudentSet, tmp_path_factory.mktemp("root") / "Distiller/students/1")
    said = []
    with listening(said.append):
        execute(inputs, output)
    return output, said


def test_distiller_leaves_the_family_and_each_student(distilled_here, stripes):
    output, _ = distilled_here

    manifest = read_manifest(output.uri, StudentSetManifest)
    assert (manifest.stage, manifest.seed, manifest.teacher_sha256) == ("distilled", 3, "7" * 64)
    assert manifest.task.classes == stripes.CLASSES
    assert [student.name for student in manifest.students] == ["a", "b"]
    family = load_model(output.uri, manifest.family)
    images = np.zeros((2, *stripes.SHAPE), np.float32)
    for student, model in zip(manifest.students, cut_students(family, ("a", "b")).values(), strict=True):
        np.testing.assert_array_equal(load_model(output.uri, student.model)(images), model(images))
    curves = read_curves(output.uri)
    assert [(epoch.stage, epoch.epoch) for epoch in curves] == [("distilled", 1), ("distilled", 2)]


def test_distiller_keeps_within_the_sizes_asked_for_with_the_labels(distilled_here):
    manifest = read_manifest(distilled_here[0].uri, StudentSetManifest)

    spec = FamilySpec.from_dict(manifest.family_spec)
    assert spec.label_bytes == len("left\nmiddle\nright\n")
    for student, budget in zip(manifest.students, (6000, 14_000), strict=True):
        assert student.predicted_int8_bytes == family_costs(spec)[student.name].int8_bytes <= budget


def test_distiller_describes_students_for_the_lineage(distilled_here):
    output, _ = distilled_here
    manifest = read_manifest(output.uri, StudentSetManifest)

    assert output.get_string_custom_property("stage") == "distilled"
    assert output.get_string_custom_property("teacher_sha256") == "7" * 64
    assert output.get_string_custom_property("students") == "a,b"
    for student in manifest.students:
        assert output.get_int_custom_property(f"{student.name}_parameters") == student.parameters
        accuracy = output.get_float_custom_property(f"{student.name}_validation_accuracy")
        assert accuracy == student.validation_accuracy > 0
        assert output.get_float_custom_property(f"{student.name}_sparsity") == 0.0


def test_distiller_says_the_sizes_before_the_first_step(distilled_here):
    _, said = distilled_here

    assert said[0].detail.split()[:2] == ["student", "parameters"]
    first_step = next(i for i, progress in enumerate(said) if "step" in progress.task)
    assert [line.detail.split()[0] for line in said[:first_step]] == ["student", "a", "b", "together"]


def test_distiller_goes_on_where_it_was_killed_and_removes_its_checkpoint(
    inputs, artifact, distilled_here, tmp_path, monkeypatch
):
    class Killed(Exception):
        pass

    def killed(*_, **__):
        raise Killed

    expected = load_model(distilled_here[0].uri, read_manifest(distilled_here[0].uri, StudentSetManifest).family)
    with monkeypatch.context() as patched:
        # All epochs are done, nothing is written yet.
        patched.setattr(distiller, "write_students", killed)
        with pytest.raises(Killed):
            execute(inputs, artifact(StudentSet, tmp_path / "Distiller/students/1"))
    (checkpoint,) = (tmp_path / "Distiller/checkpoints").iterdir()

    said = []
    output = artifact(StudentSet, tmp_path / "Distiller/students/2")
    with listening(said.append):
        execute(inputs, output)

    assert not [progress for progress in said if "step" in progress.task], "nothing was trained again"
    assert not checkpoint.exists()
    found = load_model(output.uri, read_manifest(output.uri, StudentSetManifest).family)
    for ours, theirs in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_distiller_refuses_a_size_out_of_reach(inputs, artifact, tmp_path):
    students = StudentsConfig(sizes={"a": {"size_bytes": "1KB"}, "b": {"size_bytes": "14KB"}})

    with pytest.raises(FamilyError, match="student 'a' must be feasible within 1 KB; the nearest feasible is"):
        execute(inputs, artifact(StudentSet, tmp_path / "Distiller/students/1"), students=students)


def test_distiller_builds_with_scalar_parameters():
    channels = [types.Channel(type=kind) for kind in (standard_artifacts.Examples, Teacher, TeacherLogits)]

    node = Distiller(*channels, STUDENTS, DISTILL, seed=4, code_version="x")

    assert node.exec_properties["students_sizes"] == "{a: {size_bytes: 6000}, b: {size_bytes: 14000}}"
    assert node.exec_properties["distill_epochs"] == 2
    assert node.exec_properties["seed"] == 4
    assert node.outputs["students"].type is StudentSet
