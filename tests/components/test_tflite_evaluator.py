# SPDX-License-Identifier: Apache-2.0
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.nodes import channels, configured
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.tflite_evaluator import TFLiteEvaluator, TFLiteEvaluatorExecutor
from learn2compress.data.stored_examples import look_up_examples
from learn2compress.evaluation.predictions import read_predictions
from learn2compress.schemas.artifacts import ModelEvaluation, OnDeviceModelSet, Teacher, TeacherLogits
from learn2compress.schemas.config import EvaluateConfig
from learn2compress.schemas.errors import ConfigError, DataError
from learn2compress.schemas.manifests import (
    DataManifest,
    File,
    OnDeviceModel,
    OnDeviceModelSetManifest,
    Task,
    TeacherManifest,
    write_manifest,
)
from learn2compress.schemas.reports import Evaluation
from learn2compress.schemas.scaling import Scaling

TASK = Task(input_shape=(2, 2, 1), classes=["a", "b", "c", "d"])
SHARDS = ["data_tfrecord-00000-of-00002.gz", "data_tfrecord-00001-of-00002.gz"]


def as_bytes(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def write_shard(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for feature in records:
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


def write_split(examples, logits, split, images, labels, teacher):
    """Writes two shards of images and of logits; returns the ids."""
    ids = [hashlib.sha256(f"{split} {i}".encode()).hexdigest()[:16] for i in range(len(images))]
    half = len(images) // 2
    for shard, rows in zip(SHARDS, (range(half), range(half, len(images))), strict=True):
        write_shard(
            examples / f"Split-{split}" / shard,
            [
                {
                    "image": as_bytes(images[i].tobytes()),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[labels[i]])),
                    "id": as_bytes(ids[i].encode()),
                    "source": as_bytes(f"{split} {i}".encode()),
                    "brightness": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5])),
                }
                for i in rows
            ],
        )
        write_shard(
            logits / f"Split-{split}" / shard,
            [
                {
                    "id": as_bytes(ids[i].encode()),
                    "logits": as_bytes((np.arange(4) == teacher[i]).astype(np.float16).tobytes()),
                    "views": as_bytes(np.zeros(3, np.int16).tobytes()),
                }
                for i in rows
            ],
        )
    return ids


class World:
    """Inputs of the node in a folder: 30 validation and 20 test images; the brightest pixel decides the class."""

    def __init__(self, folder, model):
        self.folder = folder
        rng = np.random.default_rng(0)
        self.labels, self.predicted, self.teacher, self.images, self.ids = {}, {}, {}, {}, {}
        for split, count in (("validation", 30), ("test", 20)):
            self.labels[split], self.predicted[split], self.teacher[split] = rng.integers(0, 4, (3, count))
            images = np.zeros((count, 2, 2, 1), np.uint8)
            images.reshape(-1, 4)[np.arange(count), self.predicted[split]] = 255
            self.images[split] = images
            self.ids[split] = write_split(
                folder / "examples",
                folder / "logits",
                split,
                images,
                self.labels[split],
                self.teacher[split],
            )
        shards = {"train": [], "validation": SHARDS, "test": SHARDS}
        counts = {"train": 0, "validation": 30, "test": 20}
        write_manifest(
            folder / "examples",
            DataManifest(
                task=TASK,
                digest="d",
                counts=counts,
                per_class={},
                shards=shards,
                duplicates={},
                duplicate_examples=[],
                skipped=[],
                skipped_count=0,
            ),
        )
        write_manifest(
            folder / "teacher",
            TeacherManifest(
                task=TASK,
                model="teacher.h5",
                format="h5",
                sha256="t",
                bytes=9,
                output="logits",
                scaling=Scaling(),
                parameters=3,
                macs=None,
                trainable=True,
                accuracy={"validation": 0.9, "test": 0.8},
            ),
        )
        self.write_models({"small-float32": model, "large-float32": model + b"\0" * 100})

    def write_models(self, files, **wrong_digests):
        models = self.folder / "models"
        models.mkdir(exist_ok=True)
        made = []
        for name, data in files.items():
            (models / f"{name}.tflite").write_bytes(data)
            file = File.of(models, f"{name}.tflite")
            file = file.model_copy(update={"sha256": wrong_digests.get(name, file.sha256)})
            student, variant = name.split("-")
            made.append(OnDeviceModel(name=name, student=student, variant=variant, file=file))
        (models / "curves.json").write_text("[]")
        write_manifest(
            models,
            OnDeviceModelSetManifest(
                task=TASK,
                normalization=Scaling(),
                teacher_sha256="t",
                models=made,
                curves=File.of(models, "curves.json"),
                seed=0,
            ),
        )

    def run(self, workers=1, **evaluate):
        """Runs the node; returns the evaluation and its artifact."""
        kinds = {
            "models": OnDeviceModelSet,
            "examples": standard_artifacts.Examples,
            "teacher": Teacher,
            "teacher_logits": TeacherLogits,
            "evaluation": ModelEvaluation,
        }
        artifacts = {name: kind() for name, kind in kinds.items()}
        for name, artifact in artifacts.items():
            artifact.uri = str(self.folder / name.removeprefix("teacher_"))
        output = artifacts.pop("evaluation")
        context = BaseBeamExecutor.Context(beam_pipeline_args=direct_runner_args(workers), tmp_dir=str(self.folder))
        config = EvaluateConfig(**{"latency_runs": 5, "top_k": 2, **evaluate})
        TFLiteEvaluatorExecutor(context).Do(
            {name: [artifact] for name, artifact in artifacts.items()},
            {"evaluation": [output]},
            {**TFLiteEvaluator.encode(evaluate=config), "code_version": "1"},
        )
        return Evaluation.model_validate_json(Path(output.uri, "evaluation.json").read_text()), output


@pytest.fixture
def world(tmp_path, brightest_pixel_tflite):
    return World(tmp_path, brightest_pixel_tflite)


def test_tflite_evaluator_measures_every_file_on_every_image(world):
    evaluation, artifact = world.run()
    assert evaluation.images == {"validation": 30, "test": 20}
    assert [c.name for c in evaluation.candidates] == ["small-float32", "large-float32"]
    for candidate in evaluation.candidates:
        file = world.folder / "models" / candidate.file
        assert candidate.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        for split in ("validation", "test"):
            figures = candidate.figures[split]
            assert figures.images == np.sum(figures.confusion) == len(world.labels[split])
            assert figures.top1 == np.mean(world.predicted[split] == world.labels[split])
            assert figures.agreement == np.mean(world.predicted[split] == world.teacher[split])
            for flip in figures.flips:
                place = world.ids[split].index(flip.id)
                assert flip.source == f"{split} {place}"
                assert flip.label == world.labels[split][place]
                assert flip.teacher == world.teacher[split][place]
        assert candidate.latency[0].runs == 5
    assert evaluation.teacher.accuracy == {"validation": 0.9, "test": 0.8}
    assert artifact.get_int_custom_property("images") == 50
    assert artifact.get_float_custom_property("accuracy_small_float32") == pytest.approx(
        np.mean(world.predicted["test"] == world.labels["test"])
    )
    assert sorted(path.name for path in Path(artifact.uri).iterdir()) == [
        "evaluation.json",
        "predictions.npz",
        "thumbnails.json",
    ]
    pictures = json.loads(Path(artifact.uri, "thumbnails.json").read_text())
    assert set(pictures) == {flip.id for c in evaluation.candidates for flip in c.figures["test"].flips}


def test_tflite_evaluator_keeps_each_prediction_in_the_order_of_the_examples(world):
    _, artifact = world.run()
    for split, predictions in read_predictions(Path(artifact.uri, "predictions.npz")).items():
        assert [f"{value:016x}" for value in predictions.ids] == world.ids[split]
        assert predictions.labels.tolist() == world.labels[split].tolist()
        assert predictions.teacher.tolist() == world.teacher[split].tolist()
        assert predictions.models["large-float32"].classes.tolist() == world.predicted[split].tolist()
        assert (predictions.models["large-float32"].confidences == 1).all()


@pytest.mark.slow
def test_tflite_evaluator_measures_the_same_with_two_workers(world):
    alone, _ = world.run()
    together, _ = world.run(workers=2)
    assert [c.figures for c in together.candidates] == [c.figures for c in alone.candidates]


def test_tflite_evaluator_reports_broken_files_and_evaluates_the_others(world, brightest_pixel_tflite):
    world.write_models(
        {
            "good-float32": brightest_pixel_tflite,
            "short-float32": brightest_pixel_tflite[: len(brightest_pixel_tflite) // 2],
            "other-float32": brightest_pixel_tflite + b"\0",
        },
        **{"other-float32": "0" * 64},
    )
    evaluation, _ = world.run()
    good, short, other = evaluation.candidates
    assert good.failed is None
    assert good.figures["test"].images == 20
    assert "short-float32.tflite" in short.failed
    assert (short.figures, short.latency) == ({}, [])
    assert "must have SHA-256 000000" in other.failed


def test_tflite_evaluator_replaces_the_hosts_latency_by_a_phones(world, tmp_path):
    path = tmp_path / "phone.json"
    result = {"file": "small-float32.tflite", "latency_ms": {"p50": 1.5}}
    path.write_text(json.dumps({"device": "Pixel 8", "results": [result]}))
    evaluation, _ = world.run(device_results=str(path))
    assert (evaluation.host.name, evaluation.host.source) == ("Pixel 8", "device")
    small, large = evaluation.candidates
    assert ([entry.p50_ms for entry in small.latency], large.latency) == ([1.5], [])


def test_tflite_evaluator_refuses_a_phones_figures_of_an_unknown_file(world, tmp_path):
    path = tmp_path / "phone.json"
    result = {"file": "none.tflite", "latency_ms": {"p50": 1.5}}
    path.write_text(json.dumps({"device": "Pixel 8", "results": [result]}))
    with pytest.raises(ConfigError, match=r"must be of one of small-float32\.tflite, large-float32\.tflite; got 'none"):
        world.run(device_results=str(path))


def test_tflite_evaluator_refuses_logits_of_other_examples(world):
    shard = world.folder / "logits" / "Split-test" / SHARDS[0]
    shard.write_bytes((world.folder / "logits" / "Split-validation" / SHARDS[0]).read_bytes())
    with pytest.raises(DataError, match=r"the teacher's logits of .*Split-test.* must be of its examples in order"):
        world.run()


def test_tflite_evaluator_refuses_a_damaged_shard(world):
    shard = world.folder / "examples" / "Split-test" / SHARDS[0]
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DataError, match="must be a whole TFRecord file"):
        world.run()


def test_look_up_examples_finds_examples_by_id(world):
    shards = [world.folder / "examples" / "Split-test" / shard for shard in SHARDS]
    wanted = [world.ids["test"][3], world.ids["test"][-1], "0" * 16]
    found = look_up_examples(shards, TASK, wanted)
    assert set(found) == set(wanted[:2])
    assert np.array_equal(found[wanted[1]], world.images["test"][-1])


def component(**evaluate):
    config = configured(evaluate=EvaluateConfig(**evaluate))
    return TFLiteEvaluator(config, channels(TFLiteEvaluator), code_version="1")


def test_tflite_evaluator_identifies_device_results_by_content(tmp_path):
    path = tmp_path / "phone.json"
    path.write_text("{}")
    first = component(device_results=str(path)).exec_properties["device_results_sha256"]
    path.write_text("{} ")
    assert component(device_results=str(path)).exec_properties["device_results_sha256"] != first
    assert "device_results_sha256" not in component().exec_properties
    assert component().outputs["evaluation"].type_name == "learn2compress.ModelEvaluation"


def test_tflite_evaluator_refuses_missing_device_results():
    with pytest.raises(ConfigError, match=r"device_results /none\.json must be a readable file"):
        component(device_results="/none.json")
