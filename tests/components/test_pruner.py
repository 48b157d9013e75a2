# SPDX-License-Identifier: Apache-2.0
import shutil

import numpy as np
import pytest
from tfx import types
from tfx.types import standard_artifacts

from learn2compress.components import parameters
from learn2compress.components.pruner import _ELSEWHERE, Pruner, PrunerExecutor, PrunerSpec
from learn2compress.compression.family_model import cut_students
from learn2compress.compression.pruning import kernel_sparsity
from learn2compress.compression.student_files import load_model, read_curves
from learn2compress.schemas.artifacts import StudentSet, TeacherLogits
from learn2compress.schemas.config import DistillConfig, PruneConfig
from learn2compress.schemas.errors import DataError, TrainingError
from learn2compress.schemas.manifests import StudentSetManifest, TeacherLogitsManifest, read_manifest, write_manifest

DISTILL = DistillConfig(batch_size=32, temperature=2.0)


@pytest.fixture
def run(stripes_artifacts, as_imported, distilled, artifact, tmp_path):
    """Executes the node without a runner; returns its output artifact."""

    def run(prune: PruneConfig, students=distilled, examples=stripes_artifacts[0], trained=as_imported):
        output = artifact(StudentSet, tmp_path / "Pruner/pruned_students/1")
        inputs = {
            "examples": [artifact(standard_artifacts.Examples, examples)],
            "teacher_logits": [artifact(TeacherLogits, stripes_artifacts[1])],
            "trained_teacher_logits": [artifact(TeacherLogits, trained)],
            "students": [artifact(StudentSet, students)],
        }
        properties = parameters.encode(prune=prune, distill=DISTILL, without=_ELSEWHERE)
        PrunerExecutor().Do(inputs, {"pruned_students": [output]}, {**properties, "seed": 1, "code_version": "1"})
        return output

    return run


def test_pruner_leaves_students_with_the_sparsity_asked_for(run, stripes, tmp_path):
    output = run(PruneConfig(sparsity=0.5, epochs=3, learning_rate=2e-3))

    manifest = read_manifest(output.uri, StudentSetManifest)
    assert manifest.stage == "pruned"
    assert [student.name for student in manifest.students] == ["small", "large"]
    family = load_model(output.uri, manifest.family)
    assert kernel_sparsity(family) == pytest.approx(0.5, abs=0.01)
    for student, model in zip(manifest.students, cut_students(family, stripes.SPEC.students).values(), strict=True):
        alone = load_model(output.uri, student.model)
        for ours, theirs in zip(alone.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert student.sparsity == pytest.approx(0.5, abs=0.01)
        assert student.validation_accuracy >= 0.9
        assert output.get_float_custom_property(f"{student.name}_sparsity") == student.sparsity
        assert output.get_int_custom_property(f"{student.name}_parameters") == student.parameters
    assert output.get_string_custom_property("stage") == "pruned"
    assert [epoch.stage for epoch in read_curves(output.uri)] == ["distilled", *["pruned"] * 3]
    assert manifest.notes[0] == "a note"
    assert "sparsity of 0.5 in: trunk1_1_pw" in manifest.notes[1]
    assert not list(tmp_path.rglob("checkpoints/*"))


def test_pruner_passes_the_students_on_when_no_sparsity_is_asked_for(run, distilled):
    output = run(PruneConfig(sparsity=0.0))

    before, after = (read_manifest(folder, StudentSetManifest) for folder in (distilled, output.uri))
    models = [load_model(folder, m.family) for folder, m in ((distilled, before), (output.uri, after))]
    for old, new in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(new, old)
    assert after.stage == "pruned"
    assert after.notes == ["a note", "no magnitude pruning was asked for"]


def test_pruner_refuses_students_that_were_changed_on_disk(run, distilled, tmp_path):
    copy = shutil.copytree(distilled, tmp_path / "changed")
    with (copy / "family/family.h5").open("ab") as file:
        file.write(b"x")

    with pytest.raises(TrainingError, match=r"family\.h5 must have the SHA-256 .* of its manifest; got"):
        run(PruneConfig(), students=copy)


def test_pruner_refuses_logits_of_other_examples(run, stripes_artifacts, tmp_path):
    copy = shutil.copytree(stripes_artifacts[0], tmp_path / "others")
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace("d" * 64, "e" * 64))

    with pytest.raises(DataError, match=r"logits in .* must be of the examples in"):
        run(PruneConfig(), examples=copy)


def test_pruner_declares_of_the_distillation_only_what_goes_on_in_it():
    declared = {name for name in PrunerSpec.PARAMETERS if name.startswith("distill_")}

    assert declared == {
        "distill_batch_size",
        "distill_temperature",
        "distill_soft_weight",
        "distill_in_place_weight",
        "distill_label_smoothing",
        "distill_student_weights",
    }


def test_pruner_learns_from_the_teacher_that_was_trained_along(run, stripes_artifacts, tmp_path):
    asked = read_manifest(stripes_artifacts[1], TeacherLogitsManifest)
    write_manifest(tmp_path / "trained", asked.model_copy(update={"data_digest": "others"}))

    with pytest.raises(DataError, match=r"logits in .*/trained must be of the examples.*got those of data others"):
        run(PruneConfig(), trained=tmp_path / "trained")


def test_pruner_builds_with_scalar_parameters():
    channels = [
        types.Channel(type=kind) for kind in (standard_artifacts.Examples, TeacherLogits, TeacherLogits, StudentSet)
    ]

    node = Pruner(*channels, PruneConfig(sparsity=0.25), DISTILL, seed=4, code_version="x")

    assert node.exec_properties["prune_sparsity"] == 0.25
    assert node.exec_properties["prune_block"] == "1x1"
    assert node.exec_properties["distill_temperature"] == 2.0
    assert node.exec_properties["seed"] == 4
    assert node.outputs["pruned_students"].type is StudentSet
