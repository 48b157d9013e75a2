# SPDX-License-Identifier: Apache-2.0
"""TeacherImporter on texts: the views on which the teacher's logits are computed, and its files."""

import csv

import numpy as np
import pytest
import tf_keras
from support.texts.teachers import WORDS, build_ids, build_strings
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.beam.teacher_inference import import_config_of
from learn2compress.components.teacher_importer import TeacherImporter, TeacherImporterExecutor
from learn2compress.components.text_example_gen import TextExampleGen, TextExampleGenExecutor
from learn2compress.compression.teacher.configured import open_teacher
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.data.batches import iter_numpy, read_with_logits
from learn2compress.modalities import modality_of
from learn2compress.schemas.artifacts import Teacher, TeacherLogits
from learn2compress.schemas.config import DataConfig, TeacherConfig
from learn2compress.schemas.digests import file_sha256, path_sha256
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.manifests import DataManifest, TeacherLogitsManifest, TeacherManifest, read_manifest

LABELED, UNLABELED = 240, 40


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Examples of two classes, with texts of the length of two windows, and texts without labels."""
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    filler = [f"w{i}" for i in range(300)]
    texts = []
    for i in range(LABELED + UNLABELED):
        words = [*rng.choice(filler, 12), *rng.choice(["good", "great"] if i % 2 else ["bad", "awful"], 4)]
        texts.append((", ".join(rng.permutation(words)), "neg" if i % 2 == 0 else "pos"))
    for name, rows in (("labeled", texts[:LABELED]), ("more", texts[LABELED:])):
        with open(folder / f"{name}.csv", "w", newline="") as stream:
            csv.writer(stream).writerows([("text", "label"), *rows])
    config = DataConfig(
        path=f"{folder}/labeled.csv", unlabeled=f"{folder}/more.csv", max_tokens=8, validation_fraction=0.3
    )
    made = standard_artifacts.Examples()
    made.uri = str(folder / "examples")
    executor = TextExampleGenExecutor(BaseBeamExecutor.Context(beam_pipeline_args=direct_runner_args(1)))
    values = TextExampleGen.encode(data=config) | {"data_digest": "d" * 64, "code_version": ""}
    executor.Do({}, {"examples": [made]}, values)
    return folder / "examples"


@pytest.fixture
def run(examples, artifact, tmp_path):
    """Executes the node without a runner; returns the folders of its two outputs."""

    def run(path, unlabeled_logits=None, encoding_sha256=None, **config):
        teacher = artifact(Teacher, tmp_path / "TeacherImporter/teacher/1")
        logits = artifact(TeacherLogits, tmp_path / "TeacherImporter/teacher_logits/1", 2)
        section = TeacherConfig(path=str(path), views=3, **config)
        context = BaseBeamExecutor.Context(beam_pipeline_args=direct_runner_args(1), tmp_dir=str(tmp_path / "beam"))
        optional = {"unlabeled_logits": unlabeled_logits, "encoding_sha256": encoding_sha256}
        TeacherImporterExecutor(context).Do(
            {"examples": [artifact(standard_artifacts.Examples, examples)]},
            {"teacher": [teacher], "teacher_logits": [logits]},
            {
                **TeacherImporter.encode(teacher=section),
                **{name: value for name, value in optional.items() if value is not None},
                "teacher_sha256": path_sha256(path),
                "features": 0,
                "seed": 5,
                "code_version": "1",
            },
        )
        return teacher.uri, logits.uri

    return run


def test_logits_are_those_of_the_views(run, examples, tmp_path):
    build_strings(tf_keras).save(tmp_path / "t.keras")

    folder, logits = run(tmp_path / "t.keras")

    manifest, task = read_manifest(logits, TeacherLogitsManifest), read_manifest(examples, DataManifest).task
    assert manifest.recipe.model_dump() == {"count": 3, "dropped_words": 0.25, "window_words": 8, "seed": 5}
    assert manifest.unlabeled is None
    about = read_manifest(folder, TeacherManifest)
    assert about.accuracy["validation"] > 0.9
    teacher, views = open_teacher(import_config_of(folder, about), task), modality_of(task).views(task)
    (batch,) = iter_numpy(read_with_logits(examples, logits, "train"))
    for k in range(3):
        seen = views.apply(batch["example"], batch["views"][:, k]).numpy()
        expected = teacher.logits(seen)
        expected -= expected.max(axis=1, keepdims=True)
        np.testing.assert_allclose(batch["logits"][:, k], expected, rtol=1e-3, atol=1e-3)
        assert (seen == batch["example"]).all() == (k == 0)


def test_training_reads_texts_without_labels_if_their_logits_were_stored(run, examples, tmp_path):
    build_strings(tf_keras).save(tmp_path / "t.keras")
    _, logits = run(tmp_path / "t.keras", unlabeled_logits=1)

    data = TrainingData.open(examples, logits, batch_size=16, seed=1)
    batches = [(texts.numpy(), labels.numpy(), values.numpy()) for texts, labels, values in data.epoch(0)]

    train = read_manifest(examples, DataManifest).counts["train"]
    manifest = read_manifest(logits, TeacherLogitsManifest)
    assert manifest.unlabeled.count == UNLABELED
    assert manifest.forward_passes == 3 * (train + UNLABELED)
    assert data.steps == (train + UNLABELED) // 16
    labels = np.concatenate([labels for _, labels, _ in batches])
    assert set(labels) == {-1, 0, 1}
    texts, values = (np.concatenate([batch[i] for batch in batches]) for i in (0, 2))
    is_good = np.array([b"good" in text or b"great" in text for text in texts])
    is_bad = np.array([b"bad" in text or b"awful" in text for text in texts])
    told = (labels == -1) & (is_good != is_bad)
    assert told.sum() > 20
    assert (values[told].argmax(1) == is_good[told]).mean() > 0.9


def test_vocabulary_travels_with_the_teacher(run, examples, tmp_path):
    build_ids(tf_keras, None).save(tmp_path / "t.keras")
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("\n".join(WORDS))

    folder, _ = run(tmp_path / "t.keras", vocabulary=str(vocabulary), encoding_sha256=file_sha256(vocabulary))
    vocabulary.unlink()

    about = read_manifest(folder, TeacherManifest)
    assert (about.tokenizer, about.vocabulary.path) == (None, "encoding/words.txt")
    task = read_manifest(examples, DataManifest).task
    teacher = open_teacher(import_config_of(folder, about), task)
    assert teacher.opened.input.length == 8
    assert teacher.logits(np.array([b"good film"], object)).argmax(1) == [1]


def test_vocabulary_that_changed_since_the_run_began_is_refused(run, tmp_path):
    build_ids(tf_keras, None).save(tmp_path / "t.keras")
    (tmp_path / "words.txt").write_text("\n".join(WORDS))

    with pytest.raises(TeacherError, match=r"teacher.vocabulary .* must have the SHA-256 eeeeeeeeeeeeeeee…"):
        run(tmp_path / "t.keras", vocabulary=str(tmp_path / "words.txt"), encoding_sha256="e" * 64)
