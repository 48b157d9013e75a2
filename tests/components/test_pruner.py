# SPDX-License-Identifier: Apache-2.0
import shutil

import numpy as np
import pytest
from support.nodes import channels, configured
from tfx.types import standard_artifacts

from learn2compress.components.pruner import Pruner, PrunerExecutor
from learn2compress.compression.family.model import build_family, cut_students
from learn2compress.compression.family.spec import FamilySpec, family_costs
from learn2compress.compression.pruning.magnitude import kernel_sparsity
from learn2compress.compression.students.files import load_model
from learn2compress.compression.training.history.curves import read_curves
from learn2compress.compression.training.joint_trainer import JointTrainer
from learn2compress.schemas.artifacts import StudentSet, TeacherLogits
from learn2compress.schemas.config import ChannelTarget, DistillConfig, PruneConfig
from learn2compress.schemas.errors import DataError, FamilyError, TrainingError
from learn2compress.schemas.manifests import StudentSetManifest, read_manifest, write_manifest

DISTILL = DistillConfig(batch_size=32, temperature=2.0)


@pytest.fixture
def run(stripes_artifacts, distilled, artifact, tmp_path):
    """Executes the node without a runner; returns its output artifact."""

    def run(prune: PruneConfig, students=distilled, examples=stripes_artifacts[0], folder=1):
        output = artifact(StudentSet, tmp_path / f"Pruner/pruned_students/{folder}")
        inputs = {
            "examples": [artifact(standard_artifacts.Examples, examples)],
            "teacher_logits": [artifact(TeacherLogits, stripes_artifacts[1])],
            "students": [artifact(StudentSet, students)],
        }
        properties = Pruner.encode(prune=prune, distill=DISTILL)
        PrunerExecutor().Do(inputs, {"pruned_students": [output]}, {**properties, "seed": 1, "code_version": "1"})
        return output

    return run


def test_pruner_writes_students_with_the_configured_sparsity(run, stripes, tmp_path):
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
    layers = {layer.layer: layer for layer in manifest.sensitivity.layers}
    assert manifest.sensitivity.images == 33
    assert layers["stem"].sparsity is None
    for name in ("trunk1_1_pw", "large_logits"):
        assert layers[name].sparsity == pytest.approx(kernel_sparsity(family, [name]), abs=0.03)
    assert len({layer.sparsity for layer in layers.values()}) > 3
    assert manifest.notes[1].endswith(", allocated by sensitivity")


def test_pruner_allocates_equal_sparsity_when_sensitivity_is_not_measured(run):
    output = run(PruneConfig(sparsity=0.5, epochs=1, sensitivity_images=0))

    manifest = read_manifest(output.uri, StudentSetManifest)
    family = load_model(output.uri, manifest.family)
    assert kernel_sparsity(family, ["trunk1_1_pw"]) == kernel_sparsity(family, ["large_tail1_pw"]) == 0.5
    assert manifest.sensitivity is None
    assert manifest.notes[1].endswith("large_logits")


NARROWER = PruneConfig(channels={"bytes": 0.9}, channel_epochs=2, channel_learning_rate=5e-3, sparsity=0)


@pytest.mark.parametrize("criterion", ["taylor", "magnitude"])
def test_pruner_writes_channel_pruned_students_that_keep_their_accuracy(run, distilled, criterion):
    output = run(NARROWER.model_copy(update={"criterion": criterion}))

    before, after = (read_manifest(folder, StudentSetManifest) for folder in (distilled, output.uri))
    old, new = before.students[-1], after.students[-1]
    assert 0.85 * old.predicted_int8_bytes <= new.predicted_int8_bytes <= 0.9 * old.predicted_int8_bytes
    assert new.macs < old.macs
    assert new.model.bytes < old.model.bytes
    assert all(student.validation_accuracy >= 0.8 for student in after.students)  # chance is 1/3
    spec = FamilySpec.from_dict(after.family_spec)
    family = load_model(output.uri, after.family)
    assert [tuple(w.shape) for w in family.get_weights()] == [tuple(w.shape) for w in build_family(spec).get_weights()]
    assert family_costs(spec)["large"].parameters == new.parameters
    assert [epoch.stage for epoch in read_curves(output.uri)] == ["distilled", "thinned", "thinned"]
    assert after.notes[1].startswith(f"{criterion} pruning of channels: ")
    groups = {group.group: group for group in after.sensitivity.channels}
    assert groups["trunk2_1"].kept == spec.path("large")[2].filters < groups["trunk2_1"].channels == 16


@pytest.mark.slow
def test_pruner_resumes_with_the_same_channels_after_an_interruption(run, monkeypatch, tmp_path):
    both = NARROWER.model_copy(update={"channel_epochs": 1, "sparsity": 0.5, "epochs": 1})
    expected = load_model(
        run(both, folder=1).uri, read_manifest(tmp_path / "Pruner/pruned_students/1", StudentSetManifest).family
    )
    trained = []

    class Interrupted(Exception):
        pass

    class Trainer(JointTrainer):
        def train(self, batches, validation, checkpoint):
            trained.append(self.recipe.stage)
            if self.recipe.stage == "pruned":
                raise Interrupted
            return super().train(batches, validation, checkpoint)

    with monkeypatch.context() as patch:
        for module in ("fine_tuning", "magnitude"):
            patch.setattr(f"learn2compress.compression.pruning.passes.{module}.JointTrainer", Trainer)
        with pytest.raises(Interrupted):
            run(both, folder=2)
    kept = sorted(path.suffixes[0] for path in (tmp_path / "Pruner/checkpoints").iterdir())
    assert kept == [".channels", ".channels", ".layers"]
    with monkeypatch.context() as patch:
        patch.setattr("learn2compress.compression.pruning.passes.channels.plan_channels", None)
        patch.setattr("learn2compress.compression.pruning.passes.magnitude.layer_sensitivity", None)
        patch.setattr(JointTrainer, "_train_epoch", _only("pruned", JointTrainer._train_epoch))
        output = run(both, folder=3)

    assert trained == ["thinned", "pruned"]
    again = load_model(output.uri, read_manifest(output.uri, StudentSetManifest).family)
    for ours, theirs in zip(again.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not list((tmp_path / "Pruner/checkpoints").iterdir())


def _only(stage, train_epoch):
    """Allows epochs of one stage only; those of other stages must come from a checkpoint."""

    def checked(self, *arguments):
        assert self.recipe.stage == stage
        return train_epoch(self, *arguments)

    return checked


def test_pruner_refuses_an_unreachable_target_before_training(run, monkeypatch):
    monkeypatch.setattr("learn2compress.compression.pruning.passes.fine_tuning.JointTrainer", None)

    with pytest.raises(
        FamilyError, match=r"prune\.channels must be within reach of student 'large'; got \{bytes: 3000\}"
    ):
        run(NARROWER.model_copy(update={"channels": ChannelTarget(bytes=3000)}))


def test_pruner_removes_channels_of_a_users_own_students(run, distilled, tmp_path):
    copy = shutil.copytree(distilled, tmp_path / "own")
    manifest = read_manifest(copy, StudentSetManifest)
    write_manifest(copy, manifest.model_copy(update={"family_spec": None}))

    output = run(NARROWER, students=copy)

    after = read_manifest(output.uri, StudentSetManifest)
    assert after.notes[1].startswith("taylor pruning of channels: ")
    assert {group.group for group in after.sensitivity.channels} >= {"stem", "trunk2_1_pw"}
    family = load_model(output.uri, after.family)
    for student, model in zip(after.students, cut_students(family, ("small", "large")).values(), strict=True):
        kernels = [v for v in model.trainable_variables if "kernel" in v.name]
        outputs = [layer.output_shape[-1] for layer in model.layers if "Conv" in type(layer).__name__]
        folded = sum(kernel.shape.num_elements() for kernel in kernels) + sum(outputs) + 3
        assert student.parameters == folded + 2  # two constants normalize the pixels in the float file
    before = {student.name: student for student in manifest.students}["large"]
    assert after.students[-1].parameters < before.parameters
    assert after.students[-1].macs < before.macs


def test_pruner_copies_the_students_when_sparsity_is_zero(run, distilled):
    output = run(PruneConfig(sparsity=0.0, sensitivity_images=0))

    before, after = (read_manifest(folder, StudentSetManifest) for folder in (distilled, output.uri))
    models = [load_model(folder, m.family) for folder, m in ((distilled, before), (output.uri, after))]
    for old, new in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(new, old)
    assert after.stage == "pruned"
    assert after.notes == ["a note", "no magnitude pruning: prune.sparsity is 0"]
    assert after.sensitivity is None


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


def test_pruner_declares_the_distillation_parameters_that_it_uses_only():
    declared = {name for name in Pruner.SPEC_CLASS.PARAMETERS if name.startswith("distill_")}

    assert declared == {
        "distill_batch_size",
        "distill_temperature",
        "distill_soft_weight",
        "distill_in_place_weight",
        "distill_in_place_from",
        "distill_label_smoothing",
        "distill_student_weights",
        "distill_strategy",
        "distill_precision",
    }


def test_pruner_builds_with_scalar_parameters():
    config = configured(prune=PruneConfig(sparsity=0.25), distill=DISTILL)

    node = Pruner(config, channels(Pruner), seed=4, code_version="x")

    assert node.exec_properties["prune_sparsity"] == 0.25
    assert node.exec_properties["prune_block"] == "1x1"
    assert node.exec_properties["distill_temperature"] == 2.0
    assert node.exec_properties["seed"] == 4
    assert node.outputs["pruned_students"].type is StudentSet
