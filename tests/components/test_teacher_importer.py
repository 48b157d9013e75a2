# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from support.nodes import channels, configured
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from learn2compress.components import teacher_importer
from learn2compress.components.beam import teacher_inference
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.teacher_importer import TeacherImporter, TeacherImporterExecutor
from learn2compress.data.batches import iter_numpy, read_with_features, read_with_logits
from learn2compress.modalities.image.views.shifts import apply_view
from learn2compress.schemas.artifacts import Teacher, TeacherLogits
from learn2compress.schemas.config import TeacherConfig
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.errors import OutputError, TeacherError
from learn2compress.schemas.manifests import TeacherLogitsManifest, TeacherManifest, read_manifest
from learn2compress.schemas.progress import listening


def save_teacher(path, stripes, *, classes=3, kernel=None):
    """Saves a model whose logits are the mean brightness of each pair of columns, as stripes.StripesTeacher's are."""
    import tf_keras as keras

    if kernel is None:
        kernel = np.zeros((*stripes.SHAPE, classes), np.float32)
        for c in range(classes):
            kernel[:, 3 * c : 3 * c + 2, :, c] = 1 / 160
    image = keras.Input(stripes.SHAPE)
    flat = keras.layers.Flatten(name="flatten")(image)
    logits = keras.layers.Dense(classes, use_bias=False, name="dense")(flat)
    model = keras.Model(image, logits)
    model.layers[-1].set_weights([kernel.reshape(-1, classes)])
    model.save(path)
    return path


@pytest.fixture(scope="module")
def teacher_file(stripes, tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("model") / "t.keras", stripes)


@pytest.fixture
def run(stripes_artifacts, teacher_file, artifact, tmp_path):
    """Executes the node without a runner; returns its two output artifacts."""

    def run(path=teacher_file, sha256=None, features=False, unlabeled=False, examples=stripes_artifacts[0], **config):
        teacher = artifact(Teacher, tmp_path / "TeacherImporter/teacher/1")
        logits = artifact(TeacherLogits, tmp_path / "TeacherImporter/teacher_logits/1", 2)
        section = TeacherConfig(**{"path": str(path), "views": 3, "view_shift": 0.125, **config})
        context = BaseBeamExecutor.Context(beam_pipeline_args=direct_runner_args(1), tmp_dir=str(tmp_path / "beam"))
        TeacherImporterExecutor(context).Do(
            {"examples": [artifact(standard_artifacts.Examples, examples)]},
            {"teacher": [teacher], "teacher_logits": [logits]},
            {
                **TeacherImporter.encode(teacher=section),
                "teacher_sha256": sha256 or path_sha256(path),
                "features": int(features),
                **({"unlabeled_logits": 1} if unlabeled else {}),
                "seed": 5,
                "code_version": "1",
            },
        )
        return teacher, logits

    return run


def test_importer_copies_the_model_unchanged_and_describes_it(run, teacher_file, stripes):
    artifact, _ = run()

    manifest = read_manifest(artifact.uri, TeacherManifest)
    assert manifest.sha256 == path_sha256(teacher_file) == path_sha256(f"{artifact.uri}/{manifest.model}")
    assert manifest.model == "model/t.keras"
    assert manifest.task.classes == stripes.CLASSES
    assert manifest.bytes == teacher_file.stat().st_size
    assert (manifest.parameters, manifest.output) == (64 * 3, "logits")
    assert manifest.accuracy == {"validation": 1.0, "test": 1.0}
    assert artifact.get_string_custom_property("sha256") == manifest.sha256
    assert artifact.get_string_custom_property("format") == manifest.format
    assert artifact.get_int_custom_property("bytes") == manifest.bytes
    assert artifact.get_int_custom_property("parameters") == 64 * 3
    assert artifact.get_float_custom_property("validation_accuracy") == 1.0
    assert artifact.get_float_custom_property("test_accuracy") == 1.0


def test_importer_runs_inference_once_for_each_view_of_each_training_image(run, stripes, stripes_artifacts):
    _, artifact = run()

    manifest = read_manifest(artifact.uri, TeacherLogitsManifest)
    assert manifest.forward_passes == 3 * 96
    assert manifest.images == stripes.COUNTS
    # Accuracy on both held-out splits; on validation images the check, three other scalings, plain and mirrored.
    assert manifest.check_passes == 33 + 30 + 33 + 3 * 33 + 2 * 33
    assert (manifest.recipe.count, manifest.recipe.shift_pixels, manifest.recipe.seed) == (3, (1, 1), 5)
    assert artifact.get_int_custom_property("forward_passes") == 3 * 96
    assert artifact.get_int_custom_property("views") == 3
    assert artifact.get_string_custom_property("teacher_sha256") == manifest.teacher_sha256
    assert artifact.get_string_custom_property("data_digest") == manifest.data_digest == "d" * 64
    teacher = stripes.StripesTeacher()
    for batch in iter_numpy(read_with_logits(stripes_artifacts[0], artifact.uri, "train")):
        for k in range(3):
            expected = teacher.logits(apply_view(batch["example"], batch["views"][:, k]).numpy())
            expected -= expected.max(axis=1, keepdims=True)
            np.testing.assert_allclose(batch["logits"][:, k], expected, rtol=2e-3, atol=2e-3)
    assert not list(Path(artifact.uri).glob("counts*"))


@pytest.mark.parametrize(
    ("setting", "flip", "checked"), [("auto", False, True), ("yes", True, False), ("no", False, False)]
)
def test_importer_mirrors_views_as_configured_or_as_measured(run, setting, flip, checked):
    """Mirroring exchanges two classes of this teacher, so that its accuracy falls."""
    _, artifact = run(view_flip=setting)

    manifest = read_manifest(artifact.uri, TeacherLogitsManifest)
    assert manifest.recipe.flip is flip
    assert (manifest.flip_accuracy is not None) is checked
    if checked:
        assert manifest.flip_accuracy < 0.5


def test_importer_mirrors_views_when_the_teacher_keeps_its_accuracy(run, monkeypatch):
    monkeypatch.setattr(teacher_importer, "trial_accuracy", lambda *_: (0.90, 0.895, 33))

    _, artifact = run()

    manifest = read_manifest(artifact.uri, TeacherLogitsManifest)
    assert manifest.recipe.flip
    assert manifest.flip_accuracy == 0.895


def test_importer_refuses_a_teacher_that_scores_near_chance(run, stripes, tmp_path):
    path = save_teacher(tmp_path / "bad.keras", stripes, kernel=np.zeros((*stripes.SHAPE, 3), np.float32))

    with pytest.raises(TeacherError, match=r"bad\.keras must score above chance on .*; got 0\.333 of 33 examples"):
        run(path)

    teacher, _ = run(path, allow_near_chance=True)
    assert read_manifest(teacher.uri, TeacherManifest).accuracy["validation"] < 0.5


def test_importer_refuses_a_teacher_whose_outputs_are_nan(run, stripes, tmp_path):
    path = save_teacher(tmp_path / "nan.keras", stripes, kernel=np.full((*stripes.SHAPE, 3), np.nan, np.float32))

    with pytest.raises(TeacherError, match=r"nan\.keras must answer with finite numbers; got NaN for .* examples"):
        run(path, allow_near_chance=True)
    assert not list(tmp_path.rglob("Split-*"))


def test_importer_refuses_a_teacher_of_other_classes(run, stripes, tmp_path):
    path = save_teacher(tmp_path / "two.keras", stripes, classes=2)

    with pytest.raises(TeacherError, match=r"two\.keras must have one output for each of the data's 3 classes; got 2"):
        run(path)


def test_importer_refuses_a_teacher_that_changed_since_the_run_began(run):
    with pytest.raises(
        TeacherError, match=r"must have the SHA-256 0{16}… that it had when the run began; got \w{16}…\. Run again"
    ):
        run(sha256="0" * 64)


def test_importer_runs_inference_with_the_recorded_copy(run, stripes, tmp_path, monkeypatch):
    """The original is replaced after it has been copied."""
    path = save_teacher(tmp_path / "t.keras", stripes)
    copy_model = teacher_importer._copy_model

    def copy_then_replace(*arguments):
        copied = copy_model(*arguments)
        save_teacher(path, stripes, kernel=np.zeros((*stripes.SHAPE, 3), np.float32))
        return copied

    monkeypatch.setattr(teacher_importer, "_copy_model", copy_then_replace)

    teacher, _ = run(path)

    assert read_manifest(teacher.uri, TeacherManifest).accuracy["test"] == 1.0


def test_importer_copies_a_saved_model_as_a_folder(run, stripes, tmp_path):
    path = save_teacher(tmp_path / "saved", stripes)

    teacher, _ = run(path)

    manifest = read_manifest(teacher.uri, TeacherManifest)
    assert manifest.model == "model/saved"
    assert path_sha256(f"{teacher.uri}/model/saved") == manifest.sha256 == path_sha256(path)


def test_importer_raises_an_output_error_when_the_copy_does_not_fit(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(teacher_importer.shutil, "copyfile", full)

    with pytest.raises(OutputError, match=r"t\.keras must be copied to .*; .*No space left on device.*Free some space"):
        run()


def test_importer_runs_a_jointly_trained_teacher_on_held_out_images_only(run):
    teacher, logits = run(mode="joint")

    manifest = read_manifest(logits.uri, TeacherLogitsManifest)
    assert (manifest.forward_passes, manifest.images["train"], manifest.shards["train"]) == (0, 0, [])
    assert (manifest.recipe.count, manifest.images["test"]) == (3, 30)
    assert not Path(logits.uri, "Split-train").exists()
    assert read_manifest(teacher.uri, TeacherManifest).accuracy == {"validation": 1.0, "test": 1.0}


def test_importer_refuses_a_teacher_that_cannot_be_jointly_trained(run, stripes, tmp_path):
    path = save_teacher(tmp_path / "saved", stripes)

    with pytest.raises(TeacherError, match=r"saved must be a \.keras or \.h5 file to be jointly trained"):
        run(path, mode="joint")


@pytest.mark.parametrize("mode", ["fixed", "joint"])
def test_importer_computes_features_once_for_each_view_with_and_without_labels(
    run, inference_counts, stripes, stripes_unlabeled, mode
):
    _, artifact = run(features=True, examples=stripes_unlabeled, mode=mode)

    manifest = read_manifest(artifact.uri, TeacherLogitsManifest)
    assert (manifest.features.layer, manifest.features.side, manifest.features.width) == ("dense", "input", 64)
    assert manifest.features.images == {"train": 96, "unlabeled": 33}
    # One forward pass for each view gives logits and features.
    alone = 3 * 33 if mode == "fixed" else 3 * (96 + 33)
    assert manifest.features.forward_passes == artifact.get_int_custom_property("feature_passes") == alone
    assert manifest.forward_passes == (3 * 96 if mode == "fixed" else 0)
    probes = sum(inference_counts) - manifest.check_passes - 3 * (96 + 33)  # whether outputs are logits is probed
    assert probes in range(65)
    assert manifest.images == stripes.COUNTS | ({} if mode == "fixed" else {"train": 0})
    # The features of this teacher are the pixels.
    seen = 0
    for batch in iter_numpy(read_with_features(stripes_unlabeled, artifact.uri, 32, 0, 0)):
        for k in range(3):
            pixels = apply_view(batch["example"], batch["views"][:, k]).numpy()
            np.testing.assert_array_equal(batch["features"][:, k], pixels.reshape(-1, 64))
        seen += len(batch["id"])
    assert seen == 129


@pytest.mark.parametrize("features", [False, True])
def test_importer_computes_logits_of_images_without_labels(run, stripes_unlabeled, features):
    _, artifact = run(unlabeled=True, features=features, examples=stripes_unlabeled)

    manifest = read_manifest(artifact.uri, TeacherLogitsManifest)
    assert manifest.unlabeled.count == 33
    assert manifest.forward_passes == 3 * (96 + 33)
    if features:
        assert manifest.features.forward_passes == 0
    batches = list(iter_numpy(read_with_logits(stripes_unlabeled, artifact.uri, "train", 32)))
    labels, ids = (np.concatenate([batch[key] for batch in batches]) for key in ("label", "id"))
    assert (labels == -1).sum() == 33
    assert len(set(ids)) == 96 + 33
    # The logits of this teacher are means of pixels, so that those of each view tell it.
    for batch in batches:
        for k in range(3):
            pixels = apply_view(batch["example"], batch["views"][:, k]).numpy().astype(float)
            expected = np.stack([pixels[:, :, 3 * c : 3 * c + 2].mean((1, 2, 3)) for c in range(3)], axis=1) / 10
            expected -= expected.max(axis=1, keepdims=True)
            np.testing.assert_allclose(batch["logits"][:, k], expected, rtol=2e-3, atol=0.05)


def test_importer_refuses_missing_features_before_inference(run, stripes, tmp_path):
    with pytest.raises(TeacherError, match=r"feature_layer must be a layer of teacher .*got 'pool'.*flatten, dense"):
        run(features=True, feature_layer="pool")
    path = save_teacher(tmp_path / "saved", stripes)
    with pytest.raises(TeacherError, match=r"saved must be a \.keras or \.h5 file for its features.*not accessible"):
        run(path, features=True)
    assert not list(tmp_path.rglob("Split-*"))


def test_importer_refuses_a_saved_model_that_uses_files_unless_it_is_trusted(run, stripes, tmp_path):
    import tensorflow as tf

    path, told = tmp_path / "saved", tmp_path / "told"
    model = tf.saved_model.load(save_teacher(tmp_path / "plain", stripes))

    def infer(image):
        tf.io.write_file(str(told), "it was run")
        return model.signatures["serving_default"](image)["dense"]

    module = tf.Module()
    module.model, module.infer = model, tf.function(infer, [tf.TensorSpec([None, *stripes.SHAPE])])
    tf.saved_model.save(module, str(path), module.infer)

    with pytest.raises(TeacherError, match=r"must only compute; its graph has WriteFile.*set teacher\.trust: true"):
        run(path)
    assert not told.exists()
    run(path, trust=True)
    assert told.read_text() == "it was run"


def test_importer_builds_with_scalar_parameters():
    config = configured(teacher=TeacherConfig(path="t.keras", class_order=[1, 0]))
    given = {"teacher_sha256": "ab", "features": 0, "seed": 4, "code_version": "x"}

    node = TeacherImporter(config, channels(TeacherImporter), **given)

    assert node.exec_properties["teacher_path"] == "t.keras"
    assert node.exec_properties["teacher_class_order"] == "[1, 0]"
    assert node.exec_properties["teacher_sha256"] == "ab"
    assert node.exec_properties["teacher_mode"] == "fixed"
    assert "teacher_learning_rate" not in node.exec_properties
    assert node.outputs["teacher"].type is Teacher
    assert node.outputs["teacher_logits"].type is TeacherLogits


def test_importer_reports_the_progress_of_inference_in_views(run, stripes):
    reported = []
    with listening(reported.append):
        run()
    last = [progress for progress in reported if progress.task.startswith("teacher inference")][-1]
    counts = stripes.COUNTS
    assert last.done == last.total == 3 * counts["train"] + counts["validation"] + counts["test"]


@pytest.fixture
def fail_at_shard(monkeypatch):
    """fail_at_shard(n): makes writing the nth shard fail once; returns a list to which started shards are added."""
    write = teacher_inference.write_outputs_shard

    def arrange(nth: int) -> list[str]:
        started = []

        def write_or_fail(*arguments):
            started.append(arguments[1])
            if len(started) == nth:
                raise RuntimeError("out of memory")
            return write(*arguments)

        monkeypatch.setattr(teacher_inference, "write_outputs_shard", write_or_fail)
        return started

    return arrange


@pytest.mark.parametrize("features", [False, True])
def test_importer_resumes_with_the_unfinished_shards_after_an_interruption(run, stripes, fail_at_shard, features):
    started = fail_at_shard(3)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(features=features)
    reported = []
    with listening(reported.append):
        _, artifact = run(features=features)

    total = len(set(started))
    assert total == len(started) - 1 > 3  # only the interrupted shard was started twice
    assert f"2 of {total} shards have outputs of an earlier attempt" in " ".join(
        progress.detail for progress in reported
    )
    manifest = read_manifest(artifact.uri, TeacherLogitsManifest)
    assert (manifest.forward_passes, manifest.images) == (3 * 96, stripes.COUNTS)
    last = [progress for progress in reported if progress.task.startswith("teacher inference")][-1]
    assert last.done == last.total
    assert 0 < last.before < last.total
    left = {path.name for path in Path(artifact.uri).parents[1].rglob("*") if path.is_file()}
    assert left == {"manifest.json", *(Path(path).name for path in started)} | {"t.keras"} & left
    if features:
        written = {path.name for path in Path(artifact.uri, "features/Split-train").iterdir()}
        assert written == set(manifest.features.shards["train"])


def test_importer_runs_all_shards_again_when_the_views_differ(run, fail_at_shard):
    started = fail_at_shard(2)
    with pytest.raises(RuntimeError, match="out of memory"):
        run()
    _, artifact = run(views=2)

    assert read_manifest(artifact.uri, TeacherLogitsManifest).forward_passes == 2 * 96
    assert len(started) == 2 + len(set(started))
