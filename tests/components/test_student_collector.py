# SPDX-License-Identifier: Apache-2.0
"""Tests the collection of two students that were pruned and quantized in separate nodes."""

import pytest
from support.nodes import configured
from tfx import types
from tfx.types import standard_artifacts

from learn2compress.components import pruner, quantizer
from learn2compress.components.student_collector import StudentCollector, StudentCollectorExecutor
from learn2compress.compression.training.history.curves import read_curves
from learn2compress.schemas.artifacts import OnDeviceModelSet, StudentSet, Teacher, TeacherLogits
from learn2compress.schemas.config import DistillConfig, PruneConfig, QuantizeConfig
from learn2compress.schemas.errors import ConfigError, FamilyError
from learn2compress.schemas.manifests import File, OnDeviceModelSetManifest, StudentSetManifest, read_manifest
from learn2compress.tflite.interpreter import open_model

DISTILL = DistillConfig(batch_size=32, in_place_weight=0.5)
NARROWER = PruneConfig(
    channels={"bytes": 0.9}, channel_epochs=1, channel_learning_rate=5e-3, sparsity=0, sensitivity_images=0
)


@pytest.fixture
def compress(stripes_artifacts, imported, distilled, artifact, tmp_path):
    """Executes Pruner and Quantizer for one student; returns their outputs."""

    def compress(student: str, teacher_variants=()):
        taught = {
            "examples": [artifact(standard_artifacts.Examples, stripes_artifacts[0])],
            "teacher_logits": [artifact(TeacherLogits, stripes_artifacts[1])],
        }
        common = {"student": student, "seed": 1, "code_version": "1"}
        pruned = artifact(StudentSet, tmp_path / f"Pruner-{student}/pruned_students/1")
        properties = pruner.Pruner.encode(prune=NARROWER, distill=DISTILL)
        inputs = {**taught, "students": [artifact(StudentSet, distilled)]}
        pruner.PrunerExecutor().Do(inputs, {"pruned_students": [pruned]}, {**properties, **common})
        models = artifact(OnDeviceModelSet, tmp_path / f"Quantizer-{student}/models/1")
        quantize = QuantizeConfig(epochs=0, variants=["int8"], calibration_images=40, teacher_variants=teacher_variants)
        properties = quantizer.Quantizer.encode(quantize=quantize, distill=DISTILL)
        inputs = {**taught, "teacher": [artifact(Teacher, imported)], "students": [artifact(StudentSet, pruned.uri)]}
        quantizer.QuantizerExecutor().Do(inputs, {"models": [models]}, {**properties, **common})
        return pruned, models

    return compress


def test_collector_merges_students_of_separate_nodes(compress, distilled, stripes, artifact, tmp_path):
    made = {"large": compress("large"), "small": compress("small", ["int8"])}
    before = {name: read_manifest(pruned.uri, StudentSetManifest) for name, (pruned, _) in made.items()}
    whole = {student.name: student for student in read_manifest(distilled, StudentSetManifest).students}
    for name, manifest in before.items():
        assert [student.name for student in manifest.students] == [name]
        assert manifest.students[0].predicted_int8_bytes < whole[name].predicted_int8_bytes
        assert manifest.students[0].validation_accuracy >= 0.7  # chance is 1/3
        assert [branch["student"] for branch in manifest.family_spec["branches"]] == [name]
    students = artifact(StudentSet, tmp_path / "StudentCollector/pruned_students/1")
    models = artifact(OnDeviceModelSet, tmp_path / "StudentCollector/models/1")
    inputs = {f"pruned_{name}": [pruned] for name, (pruned, _) in made.items()}
    inputs |= {f"models_{name}": [files] for name, (_, files) in made.items()}

    StudentCollectorExecutor().Do(inputs, {"pruned_students": [students], "models": [models]}, {"code_version": "1"})

    together = read_manifest(models.uri, OnDeviceModelSetManifest)
    assert [model.name for model in together.models] == ["small-int8", "large-int8", "teacher-int8"]
    assert models.get_string_custom_property("models") == "small-int8,large-int8,teacher-int8"
    images, labels = stripes.draw(60, 8)
    for model in together.models:
        assert File.of(tmp_path / "StudentCollector/models/1", model.file.path) == model.file
        classifier = open_model((tmp_path / "StudentCollector/models/1" / model.file.path).read_bytes())
        assert (classifier.predict(images).argmax(-1) == labels).mean() >= 0.7, model.name
    merged = read_manifest(students.uri, StudentSetManifest)
    assert [student.name for student in merged.students] == ["small", "large"]
    assert students.get_string_custom_property("students") == "small,large"
    assert (
        "small: cut out of the family before pruning: it is no longer distilled from a larger student" in merged.notes
    )
    assert not any(note.startswith("large: cut out") for note in merged.notes)
    last = read_curves(models.uri)[-1]
    assert (last.stage, set(last.accuracy)) == ("thinned", {"small", "large"})


def test_pruner_refuses_a_student_that_is_not_in_the_set(compress):
    with pytest.raises(FamilyError, match="student 'medium' must be one of the set, which are small, large"):
        compress("medium")


def test_collector_has_inputs_for_its_students_only():
    node = StudentCollector(
        configured(), {"small": types.Channel(type=StudentSet)}, {"small": types.Channel(type=OnDeviceModelSet)}, "1"
    )

    assert set(node.inputs) == {"pruned_small", "models_small"}
    assert set(node.outputs) == {"pruned_students", "models"}


def test_collector_refuses_a_student_of_another_name():
    with pytest.raises(ConfigError, match=r"students must be called tiny, .* with kubeflow\.fan_out; got nano\. Give"):
        StudentCollector(
            configured(), {"nano": types.Channel(type=StudentSet)}, {"nano": types.Channel(type=OnDeviceModelSet)}, "1"
        )
