# SPDX-License-Identifier: Apache-2.0
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.latency import PER_MAC
from support.nodes import channels, configured
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from learn2compress.components import distiller
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.distiller import Distiller, DistillerExecutor
from learn2compress.components.node import Execution
from learn2compress.compression.family.model import cut_students, normalize
from learn2compress.compression.family.spec import FamilySpec, family_costs
from learn2compress.compression.students.files import load_family, load_model
from learn2compress.compression.teacher.classifier import load_teacher
from learn2compress.compression.teacher.logits import write_outputs_shard
from learn2compress.compression.training.history.curves import read_curves
from learn2compress.data.batches import iter_numpy, read_with_logits
from learn2compress.evaluation.latency.table import model_text
from learn2compress.lineage.records.provenance import describe_output
from learn2compress.schemas.artifacts import StudentSet, Teacher, TeacherLogits
from learn2compress.schemas.config import DistillConfig, StudentsConfig, TeacherConfig
from learn2compress.schemas.digests import file_sha256, tree_sha256
from learn2compress.schemas.errors import DataError, FamilyError, TrainingError
from learn2compress.schemas.manifests import (
    DataManifest,
    StudentSetManifest,
    Task,
    TeacherFeaturesManifest,
    TeacherLogitsManifest,
    TeacherManifest,
    TrainedTeacherManifest,
    manifest_sha256,
    read_manifest,
    write_manifest,
)
from learn2compress.schemas.module_source import ModuleSource
from learn2compress.schemas.progress import listening
from learn2compress.schemas.scaling import Scaling
from learn2compress.storage.location import open_location

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


def execute(inputs, output, students=STUDENTS, distill=DISTILL, module=None, init_sha256=None, **teaching):
    """Executes the node without a runner; returns its other output artifacts by key."""
    teaching = TeacherConfig(path="t.keras", **teaching)
    beside = {}
    for key in set(Distiller.makes(configured(teacher=teaching))) - {"students"}:
        beside[key] = Distiller.OUTPUTS[key]()
        beside[key].uri = output.uri.replace("/students/", f"/{key}/")
    properties = Distiller.encode(students=students, distill=distill, teacher=teaching)
    context = BaseBeamExecutor.Context(beam_pipeline_args=direct_runner_args(1))
    DistillerExecutor(context).Do(
        inputs,
        {"students": [output]} | {key: [one] for key, one in beside.items()},
        {**properties, **(module or {}), "seed": 3, "code_version": "1"}
        | ({"init_sha256": init_sha256} if init_sha256 else {}),
    )
    return beside


@pytest.fixture(scope="module")
def distilled_here(inputs, artifact, tmp_path_factory):
    """Executes the node once without a runner; returns its output artifact, its progress, and the other outputs."""
    output = artifact(StudentSet, tmp_path_factory.mktemp("root") / "Distiller/students/1")
    reported = []
    with listening(reported.append):
        beside = execute(inputs, output)
    return output, reported, beside


def test_distiller_writes_the_family_and_each_student(distilled_here, stripes):
    output, *_ = distilled_here

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
    runs = ["distilled/", "distilled/a/", "distilled/b/"]
    assert [file.path for file in manifest.events] == [f"tensorboard/{r}events.out.tfevents.curve" for r in runs]


def test_distiller_meets_the_size_budgets_including_labels(distilled_here):
    manifest = read_manifest(distilled_here[0].uri, StudentSetManifest)

    spec = FamilySpec.from_dict(manifest.family_spec)
    assert spec.label_bytes == len("left\nmiddle\nright\n")
    for student, budget in zip(manifest.students, (6000, 14_000), strict=True):
        assert student.predicted_int8_bytes == family_costs(spec)[student.name].int8_bytes <= budget


def test_distiller_describes_students_for_the_lineage(distilled_here):
    output, *_ = distilled_here
    manifest = read_manifest(output.uri, StudentSetManifest)

    assert output.get_string_custom_property("stage") == "distilled"
    assert output.get_string_custom_property("teacher_sha256") == "7" * 64
    assert output.get_string_custom_property("students") == "a,b"
    for student in manifest.students:
        assert output.get_int_custom_property(f"{student.name}_parameters") == student.parameters
        accuracy = output.get_float_custom_property(f"{student.name}_validation_accuracy")
        assert accuracy == student.validation_accuracy > 0
        assert output.get_float_custom_property(f"{student.name}_sparsity") == 0.0


def test_distiller_reports_the_sizes_before_the_first_step(distilled_here):
    _, reported, _ = distilled_here

    assert reported[0].detail.split()[:2] == ["student", "parameters"]
    first_step = next(i for i, progress in enumerate(reported) if "step" in progress.task)
    first_words = [line.detail.split()[0] for line in reported[:first_step]]
    # The last line names the machine, once the latencies of its operations are known.
    assert first_words in [["student", "a", "b", "together", "a", *last] for last in ([], ["latency"])]


def test_distiller_resumes_after_it_was_killed_and_removes_its_checkpoint(
    inputs, artifact, distilled_here, tmp_path, monkeypatch
):
    class Killed(Exception):
        pass

    def killed(*_, **__):
        raise Killed

    expected = load_model(distilled_here[0].uri, read_manifest(distilled_here[0].uri, StudentSetManifest).family)
    with monkeypatch.context() as patched:
        # It is killed after the last epoch, before the outputs are written.
        patched.setattr(distiller, "write_students", killed)
        with pytest.raises(Killed):
            execute(inputs, artifact(StudentSet, tmp_path / "Distiller/students/1"))
    (checkpoint,) = (tmp_path / "Distiller/checkpoints").iterdir()

    reported = []
    output = artifact(StudentSet, tmp_path / "Distiller/students/2")
    with listening(reported.append):
        execute(inputs, output)

    assert not [progress for progress in reported if "step" in progress.task], "nothing was trained again"
    assert not checkpoint.exists()
    found = load_model(output.uri, read_manifest(output.uri, StudentSetManifest).family)
    for ours, theirs in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_distiller_has_outputs_of_a_trained_teacher_only_when_it_is_jointly_trained():
    made = {
        mode: Distiller(
            configured(teacher=TeacherConfig(path="t.keras", mode=mode)), channels(Distiller), seed=4, code_version="x"
        )
        for mode in ("fixed", "joint")
    }

    assert set(made["fixed"].outputs) == {"students"}
    assert set(made["joint"].outputs) == {"students", "trained_teacher", "trained_teacher_logits"}


@pytest.fixture(scope="module")
def joint_inputs(inputs, stripes, stripes_artifacts, artifact, tmp_path_factory):
    """Inputs with a teacher for joint training, as TeacherImporter writes it: a real model, no logits of train."""
    import tf_keras as keras

    folder = tmp_path_factory.mktemp("trainable")
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input(stripes.SHAPE), keras.layers.Flatten(), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    )
    (folder / "teacher/model").mkdir(parents=True)
    model.save(folder / "teacher/model/t.keras")
    sha256 = file_sha256(folder / "teacher/model/t.keras")
    about = read_manifest(inputs["teacher"][0].uri, TeacherManifest)
    about = about.model_copy(update={"sha256": sha256, "scaling": Scaling.named("unit"), "trainable": True})
    write_manifest(folder / "teacher", about)
    given = read_manifest(stripes_artifacts[1], TeacherLogitsManifest)
    update = {"teacher_sha256": sha256, "shards": given.shards | {"train": []}, "forward_passes": 0}
    write_manifest(folder / "logits", given.model_copy(update=update))
    for split in ("validation", "test"):
        shutil.copytree(stripes_artifacts[1] / f"Split-{split}", folder / f"logits/Split-{split}")
    return inputs | {
        "teacher": [artifact(Teacher, folder / "teacher")],
        "teacher_logits": [artifact(TeacherLogits, folder / "logits")],
    }


def test_distiller_jointly_trains_a_copy_of_the_teacher_and_computes_its_logits_on_the_views(
    joint_inputs, stripes, artifact, tmp_path
):
    output = artifact(StudentSet, tmp_path / "Distiller/students/1")
    imported = Path(joint_inputs["teacher"][0].uri)
    before = read_manifest(imported, TeacherManifest)

    distill = DISTILL.model_copy(update={"epochs": 4})
    beside = execute(joint_inputs, output, distill=distill, mode="joint", learning_rate=0.02, mutual_weight=0.5)

    assert file_sha256(imported / before.model) == before.sha256, "the imported teacher is untouched"
    folder = Path(beside["trained_teacher"].uri)
    trained = read_manifest(folder, TrainedTeacherManifest)
    assert (trained.mode, trained.imported_sha256, trained.epochs) == ("joint", before.sha256, 4)
    assert (trained.learning_rate, trained.mutual_weight) == (0.02, 0.5)
    assert trained.forward_passes == 4 * 96
    assert trained.teacher.sha256 == file_sha256(folder / trained.teacher.model) != before.sha256
    curves = read_curves(output.uri)
    assert trained.teacher.accuracy["validation"] == max(epoch.teacher_accuracy for epoch in curves) > 0.6
    assert curves[trained.best_epoch - 1].teacher_accuracy == trained.teacher.accuracy["validation"]
    model = load_teacher(folder / trained.teacher.model, scaling="unit")
    images, labels = stripes.draw(30, 2)
    assert np.mean(model.logits(images).argmax(-1) == labels) == trained.teacher.accuracy["test"]
    for name in ("sha256", "imported_sha256", "mode"):
        assert beside["trained_teacher"].get_string_custom_property(name)
    test_accuracy = beside["trained_teacher"].get_float_custom_property("test_accuracy")
    assert test_accuracy == trained.teacher.accuracy["test"]
    # Pruner and Quantizer learn from the trained teacher's logits on the same views.
    logits = beside["trained_teacher_logits"]
    taught = read_manifest(logits.uri, TeacherLogitsManifest)
    assert (taught.teacher_sha256, taught.recipe, taught.forward_passes) == (
        trained.teacher.sha256,
        stripes.RECIPE,
        192,
    )
    for batch in iter_numpy(read_with_logits(joint_inputs["examples"][0].uri, logits.uri, "train")):
        expected = model.logits(batch["example"])
        np.testing.assert_allclose(batch["logits"][:, 0], expected - expected.max(-1, keepdims=True), atol=5e-3)
    students = read_manifest(output.uri, StudentSetManifest)
    assert students.teacher_sha256 == before.sha256
    assert any(trained.teacher.sha256[:16] in note for note in students.notes)


@pytest.fixture(scope="module")
def feature_inputs(inputs, stripes, stripes_artifacts, stripes_unlabeled, artifact, tmp_path_factory):
    """Inputs with features beside the logits: the mean brightness of each pair of columns, and a constant."""

    def brightness(images):
        values = stripes.StripesTeacher().logits(images)
        return {"features": np.concatenate([values, np.ones((len(values), 1), np.float32)], axis=1)}

    folder = tmp_path_factory.mktemp("features") / "logits"
    shutil.copytree(stripes_artifacts[1], folder)
    data = read_manifest(stripes_unlabeled, DataManifest)
    shards = {"train": data.shards["train"], "unlabeled": data.unlabeled.shards}
    for part, names in shards.items():
        for name in names:
            place = f"Split-{part}/{name}"
            target = {"features": str(folder / "features" / place)}
            write_outputs_shard(brightness, str(stripes_unlabeled / place), target, stripes.TASK, stripes.RECIPE)
    features = TeacherFeaturesManifest(
        layer="pool",
        side="output",
        width=4,
        shards=shards,
        images={"train": 96, "unlabeled": 33},
        forward_passes=2 * 129,
    )
    given = read_manifest(folder, TeacherLogitsManifest)
    update = {"features": features, "examples_sha256": manifest_sha256(stripes_unlabeled)}
    write_manifest(folder, given.model_copy(update=update))
    return inputs | {
        "examples": [artifact(standard_artifacts.Examples, stripes_unlabeled)],
        "teacher_logits": [artifact(TeacherLogits, folder)],
    }


def test_distiller_initializes_students_by_features_and_records_it_after_an_interruption(
    feature_inputs, artifact, tmp_path, monkeypatch
):
    distill = DISTILL.model_copy(update={"epochs": 1, "init": "features", "init_epochs": 6})
    expected = []

    class Killed(Exception):
        pass

    def killed(_, family, **__):
        expected.extend(family.get_weights())
        raise Killed

    with monkeypatch.context() as patched:
        # It is killed after the last epoch, before the outputs are written.
        patched.setattr(distiller, "write_students", killed)
        with pytest.raises(Killed):
            execute(feature_inputs, artifact(StudentSet, tmp_path / "Distiller/students/1"), distill=distill)
    reported, output = [], artifact(StudentSet, tmp_path / "Distiller/students/2")
    with listening(reported.append):
        execute(feature_inputs, output, distill=distill)

    manifest = read_manifest(output.uri, StudentSetManifest)
    found = manifest.initialization
    assert (found.kind, found.source_sha256, found.feature_layer, found.epochs) == ("features", "7" * 64, "pool", 6)
    assert (found.labeled_images, found.unlabeled_images, found.forward_passes) == (96, 33, 258)
    assert output.get_string_custom_property("init") == "features"
    curves = read_curves(output.uri)
    assert [epoch.stage for epoch in curves] == [*["features"] * 6, "distilled"]
    assert all(curves[5].loss[name] < 0.7 * curves[0].loss[name] for name in ("a", "b")), curves
    assert not [name for name in load_model(output.uri, manifest.family).output_names if "projection" in name]
    assert not list((tmp_path / "Distiller/checkpoints").iterdir())
    assert not [progress for progress in reported if "step" in progress.task], "nothing was trained again"
    for ours, theirs in zip(load_model(output.uri, manifest.family).get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_distiller_refuses_features_of_other_examples(feature_inputs, inputs, artifact, tmp_path):
    distill = DISTILL.model_copy(update={"init": "features"})
    mixed = feature_inputs | {"examples": inputs["examples"]}

    with pytest.raises(DataError, match=r"logits in .* must be of the examples in .*Run the teacher again"):
        execute(mixed, artifact(StudentSet, tmp_path / "Distiller/students/1"), distill=distill)


def test_distiller_initializes_students_with_those_of_an_earlier_run(inputs, distilled_here, artifact, tmp_path):
    """With a learning rate near zero the weights stay as they were."""
    source = Path(distilled_here[0].uri)
    distill = DISTILL.model_copy(update={"epochs": 1, "learning_rate": 1e-12, "init": str(source), "ema_decay": 0.0})
    output = artifact(StudentSet, tmp_path / "Distiller/students/1")

    execute(inputs, output, distill=distill, init_sha256=tree_sha256(source))

    manifest = read_manifest(output.uri, StudentSetManifest)
    expected = describe_output(open_location(source.parent), str(source), "students", StudentSet.TYPE_NAME).digest
    assert manifest.initialization.kind == "students"
    assert manifest.initialization.source_sha256 == expected, "the digest in the earlier run's record"
    assert output.get_string_custom_property("init_sha256") == expected
    before = load_model(source, read_manifest(source, StudentSetManifest).family)
    after = load_model(output.uri, manifest.family)
    for layer in before.layers:
        if "bn" not in layer.name:
            for ours, theirs in zip(after.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-6)

    with pytest.raises(TrainingError, match=r"must have the SHA-256 0{16}… that they had at the start of the run; got"):
        execute(inputs, artifact(StudentSet, tmp_path / "2"), distill=distill, init_sha256="0" * 64)


def test_distiller_refuses_a_size_out_of_reach(inputs, artifact, tmp_path):
    students = StudentsConfig(sizes={"a": {"size_bytes": "1KB"}, "b": {"size_bytes": "14KB"}})

    with pytest.raises(FamilyError, match="student 'a' must be feasible within 1,000 B; the nearest feasible is"):
        execute(inputs, artifact(StudentSet, tmp_path / "Distiller/students/1"), students=students)


def test_distiller_builds_with_scalar_parameters():
    teaching = TeacherConfig(path="t.keras", learning_rate=0.5)
    config = configured(students=STUDENTS, distill=DISTILL, teacher=teaching)

    node = Distiller(config, channels(Distiller), init_sha256="ab", seed=4, code_version="x")

    assert node.exec_properties["students_sizes"] == "{a: {size_bytes: 6000}, b: {size_bytes: 14000}}"
    assert node.exec_properties["distill_epochs"] == 2
    assert node.exec_properties["init_sha256"] == "ab"
    assert node.exec_properties["teacher_mode"] == "fixed"
    assert node.exec_properties["teacher_learning_rate"] == 0.5
    assert "teacher_path" not in node.exec_properties
    assert node.exec_properties["seed"] == 4
    assert node.outputs["students"].type is StudentSet


def test_distiller_trains_the_students_of_a_module(inputs, artifact, tmp_path, stripes):
    text = """
import tf_keras as keras

class Half(keras.layers.Layer):
    def call(self, x):
        return 0.5 * x

def build(input_shape, classes):
    image = keras.Input(input_shape)
    x = keras.layers.Flatten()(Half()(image))
    wide = keras.layers.Dense(classes)(keras.layers.Dense(16, activation="relu")(x))
    return keras.Model(image, {"wide": wide, "narrow": keras.layers.Dense(classes)(x)})
"""
    source = ModuleSource("mine.py", "build", text)
    students = StudentsConfig(module="/somewhere/mine.py:build")
    config = configured(students=students, distill=DISTILL)
    node = Distiller(config, channels(Distiller), **source.to_parameters(), seed=3, code_version="1")
    assert "students_sizes" not in node.exec_properties
    assert node.exec_properties["module_sha256"] == source.sha256
    assert not [value for value in node.exec_properties.values() if "/somewhere" in str(value)]
    output = artifact(StudentSet, tmp_path / "Distiller/students/1")

    module = {key: value for key, value in node.exec_properties.items() if key.startswith("module_")}
    execute(inputs, output, students, module=module)

    manifest = read_manifest(output.uri, StudentSetManifest)
    assert [student.name for student in manifest.students] == ["narrow", "wide"]
    assert [student.predicted_int8_bytes for student in manifest.students] == [None, None]
    assert manifest.family_spec is None
    assert (tmp_path / "Distiller/students/1/module/mine.py").read_text() == text
    assert {row.method for row in manifest.students[1].preflight} <= {"quantization-aware", "output-only"}
    family = load_family(output.uri, manifest)
    images = normalize(stripes.draw(33, 1)[0])
    labels = stripes.draw(33, 1)[1]
    accuracy = np.mean(np.argmax(family(images)[1], axis=1) == labels)
    assert accuracy == pytest.approx(manifest.students[1].validation_accuracy)
    assert accuracy > 0.5


def test_distiller_solves_for_the_recorded_latencies(stripes):
    sizes = StudentsConfig(sizes={"a": {"latency_ms": 0.05}, "b": {"latency_ms": 0.2}})
    sections = Distiller.encode(students=sizes, distill=DISTILL, teacher=TeacherConfig(path="t.keras"))
    execution = Execution({}, {}, {**sections, "latency_model": model_text(PER_MAC)})

    architecture, _ = distiller._design(execution, DISTILL, Task(input_shape=stripes.SHAPE, classes=stripes.CLASSES))

    costs = architecture.costs()
    assert 0.045 <= costs["a"].latency_ms <= 0.05
    assert 0.18 <= costs["b"].latency_ms <= 0.2
    assert architecture.describe().endswith("latency of one thread on Abacus with beads 1")
