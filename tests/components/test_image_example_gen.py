# SPDX-License-Identifier: Apache-2.0
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from ml_metadata.proto import metadata_store_pb2
from PIL import Image
from support.nodes import configured
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator.component import ExampleValidator
from tfx.components.schema_gen.component import SchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.execution.example_gen import statistics_options
from learn2compress.components.image_example_gen import ImageExampleGen, ImageExampleGenExecutor
from learn2compress.data.batches import iter_numpy, read_examples, read_shard
from learn2compress.data.sources.formats import data_digest
from learn2compress.schemas import parameters
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import DataManifest, read_manifest


def run(config: DataConfig, folder, **properties) -> standard_artifacts.Examples:
    """Runs the executor as TFX does; returns the artifact."""
    examples = standard_artifacts.Examples()
    examples.uri = str(folder)
    executor = ImageExampleGenExecutor(BaseBeamExecutor.Context(beam_pipeline_args=direct_runner_args(1)))
    values = ImageExampleGen.encode(data=config) | {"data_digest": "d" * 64, "code_version": ""} | properties
    executor.Do({}, {"examples": [examples]}, values)
    return examples


def save_images(folder, count=30, bad=0) -> DataConfig:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(rng.integers(0, 256, (6, 7, 3), np.uint8))
            image.save(folder / label / f"{number:03}.png")
    for number in range(bad):
        (folder / "cat" / f"torn{number}.jpg").write_bytes(b"\xff\xd8\xff")
    return DataConfig(path=str(folder), height=5, width=4, channels=1)


def test_image_example_gen_writes_shards_manifest_and_properties(tmp_path):
    examples = run(save_images(tmp_path / "images", count=60, bad=1), tmp_path / "out")
    manifest = read_manifest(tmp_path / "out", DataManifest)
    assert manifest.task.input_shape == (5, 4, 1)
    assert manifest.task.classes == ["cat", "dog"]
    assert manifest.digest == "d" * 64
    assert sum(manifest.counts.values()) == 120
    assert {split: sum(counts) for split, counts in manifest.per_class.items()} == manifest.counts
    assert [sum(counts) for counts in zip(*manifest.per_class.values(), strict=True)] == [60, 60]
    assert manifest.skipped_count == 1
    assert manifest.skipped[0].source == "cat/torn0.jpg"
    on_disk = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert on_disk == sorted(
        ["manifest.json", *(f"Split-{split}/{name}" for split, names in manifest.shards.items() for name in names)]
    )
    assert examples.splits == ["train", "validation", "test"]
    assert examples.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"
    assert examples.get_string_custom_property("file_format") == "tfrecords_gzip"
    assert examples.get_string_custom_property("data_digest") == "d" * 64
    figures = {"classes": 2, "images": 120, "skipped": 1, "duplicates": 0}
    figures |= {f"{split}_images": count for split, count in manifest.counts.items()}
    assert {name: examples.get_int_custom_property(name) for name in figures} == figures
    batches = list(iter_numpy(read_examples(tmp_path / "out", "train")))
    assert sum(len(batch["label"]) for batch in batches) == manifest.counts["train"]
    assert batches[0]["example"].shape[1:] == (5, 4, 1)


def test_image_example_gen_warns_of_images_that_are_in_train_and_test(tmp_path, caplog):
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), np.uint8)
    labels = np.arange(60) % 2
    np.savez(
        tmp_path / "x.npz", train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9]
    )
    with caplog.at_level(logging.WARNING):
        examples = run(DataConfig(path=str(tmp_path / "x.npz")), tmp_path / "out")
    manifest = read_manifest(tmp_path / "out", DataManifest)
    # Each of the nine is in train, or in the validation split that was cut from it.
    assert manifest.duplicates["train/test"] + manifest.duplicates.get("validation/test", 0) == 9
    assert examples.get_int_custom_property("duplicates") == 9
    assert f"{manifest.duplicates['train/test']} images of test are also in train" in caplog.text
    assert ("train_images[0]", "test_images[0]") in manifest.duplicate_examples


def test_image_example_gen_reads_at_most_the_limit(tmp_path):
    run(save_images(tmp_path / "images", count=60), tmp_path / "out", limit=100)
    assert sum(read_manifest(tmp_path / "out", DataManifest).counts.values()) == 100


def test_image_example_gen_skips_pictures_of_more_than_the_configured_pixels(tmp_path):
    config = save_images(tmp_path / "images").model_copy(update={"max_pixels": 41, "max_bad_fraction": 0.5})
    with pytest.raises(DataError, match=r"got 60 of 60: cat/000\.png: it declares 7 x 6 pixels, more than 41 in all"):
        run(config, tmp_path / "out")
    run(config.model_copy(update={"max_pixels": 42}), tmp_path / "more")


def test_image_example_gen_raises_when_too_many_images_are_bad(tmp_path):
    config = save_images(tmp_path / "images", count=30, bad=2)
    message = r"at most 1.00% of the images in .* may be unreadable; got 2 of 62: cat/torn0.jpg: .*; cat/torn1.jpg: "
    with pytest.raises(DataError, match=message + r".*raise data.max_bad_fraction\.$"):
        run(config, tmp_path / "out")
    run(config.model_copy(update={"max_bad_fraction": 0.04}), tmp_path / "more")
    assert read_manifest(tmp_path / "more", DataManifest).skipped_count == 2


def test_image_example_gen_raises_when_a_split_is_empty(tmp_path):
    with pytest.raises(DataError, match=r"each of the splits .* must hold images; got none for \w+ of 2 in .*--limit"):
        run(save_images(tmp_path / "images", count=1), tmp_path / "out")


def test_image_example_gen_raises_when_a_class_has_no_training_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), np.uint8)
    labels = np.arange(30) % 2
    names = np.array(["cat", "dog", "emu"])
    np.savez(tmp_path / "x.npz", train_images=images[:30], train_labels=labels, test_images=images[30:],
             test_labels=labels, class_names=names)  # fmt: skip
    with pytest.raises(DataError, match=r"each class of .*x.npz must have training images; got none of 'emu'"):
        run(DataConfig(path=str(tmp_path / "x.npz"), validation_fraction=0.3), tmp_path / "out")


def test_image_example_gen_names_what_is_passed_over(tmp_path):
    config = save_images(tmp_path / "images")
    (tmp_path / "images" / "__MACOSX").mkdir()
    run(config, tmp_path / "out")
    notes = read_manifest(tmp_path / "out", DataManifest).notes
    assert any("without pictures, 1: __MACOSX" in note for note in notes)


def test_image_example_gen_removes_its_spill_files(tmp_path):
    config = save_images(tmp_path / "images", count=1)
    with pytest.raises(DataError, match="each of the splits"):
        run(config, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_image_example_gen_parameters_are_plain_scalars():
    data = DataConfig(path="digits", classes=["a", "b"], height=8)
    node = ImageExampleGen(configured(data=data), {}, data_digest="d" * 64, limit=100, code_version="1")
    set_values = {key: value for key, value in node.exec_properties.items() if value is not None}
    assert set_values["data_classes"] == "[a, b]"
    assert set_values["data_height"] == 8
    assert set_values["limit"] == 100
    assert "data_width" not in set_values
    assert all(isinstance(value, int | float | str) for value in set_values.values())
    assert parameters.decode(DataConfig, "data", node.exec_properties) == data


@pytest.mark.e2e
@pytest.mark.slow
def test_image_example_gen_feeds_the_standard_nodes(tmp_path):
    data = DataConfig(path="digits")
    generator = ImageExampleGen(configured(data=data), {}, data_digest=data_digest(data), limit=200, code_version="")
    statistics = StatisticsGen(examples=generator.outputs["examples"], stats_options=statistics_options())
    schema = SchemaGen(statistics=statistics.outputs["statistics"])
    validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"])
    database = metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.db"))
    LocalDagRunner().run(
        Pipeline(
            pipeline_name="data",
            pipeline_root=str(tmp_path / "root"),
            components=[generator, statistics, schema, validator],
            metadata_connection_config=database,
            beam_pipeline_args=direct_runner_args(1),
        )
    )
    with metadata.Metadata(database) as handler:
        by_type = {
            kind: handler.store.get_artifacts_by_type(kind)[0]
            for kind in ("Examples", "ExampleStatistics", "Schema", "ExampleAnomalies")
        }
        states = {execution.last_known_state for execution in handler.store.get_executions()}
    assert states == {metadata_store_pb2.Execution.COMPLETE}
    assert by_type["Examples"].custom_properties["images"].int_value == 400
    found = io_utils.SchemaReader().read(by_type["Schema"].uri + "/schema.pbtxt")
    assert {feature.name for feature in found.feature} == {"label", "original_height", "original_width", "brightness"}
    for split in ("train", "validation", "test"):
        anomalies = anomalies_pb2.Anomalies()
        anomalies.ParseFromString(Path(by_type["ExampleAnomalies"].uri, f"Split-{split}", "SchemaDiff.pb").read_bytes())
        assert not anomalies.anomaly_info
        computed = tfdv.load_stats_binary(f"{by_type['ExampleStatistics'].uri}/Split-{split}/FeatureStats.pb")
        (dataset,) = computed.datasets
        count = by_type["Examples"].custom_properties[f"{split}_images"].int_value
        assert dataset.num_examples == count > 0


@pytest.mark.e2e
def test_image_example_gen_error_is_raised_unchanged_by_the_runner(tmp_path):
    config = configured(data=save_images(tmp_path / "images", count=3, bad=3))
    generator = ImageExampleGen(config, {}, data_digest="d" * 64, code_version="")
    pipeline = Pipeline(
        pipeline_name="data",
        pipeline_root=str(tmp_path / "root"),
        components=[generator],
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.db")),
        beam_pipeline_args=direct_runner_args(1),
    )
    with pytest.raises(DataError, match=r"may be unreadable; got 3 of 9: cat/torn0.jpg"):
        LocalDagRunner().run(pipeline)


def save_unlabeled(folder, kind: str, count=25):
    """Writes images without labels in one of the formats; returns their path."""
    rng = np.random.default_rng(9)
    images = rng.integers(0, 256, (count, 9, 8, 3), np.uint8)
    if kind == "folder":
        (folder / "deep/er").mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / ("deep/er" if number % 2 else ".") / f"{number:03}.png")
        (folder / "Thumbs.db").write_bytes(b"x")
        return folder
    if kind == "npz":
        np.savez(folder.with_suffix(".npz"), images=images)
        return folder.with_suffix(".npz")
    folder.mkdir()
    for part in range(2):
        with tf.io.TFRecordWriter(str(folder / f"test.tfrecord-{part:05}-of-00002")) as writer:
            for image in images[part::2]:
                encoded = tf.io.encode_png(image).numpy()
                feature = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))}
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return folder


@pytest.mark.parametrize("kind", ["folder", "npz", "tfrecord"])
def test_images_without_labels_are_stored_beside_the_splits(kind, tmp_path):
    config = save_images(tmp_path / "images")
    config = config.model_copy(update={"unlabeled": str(save_unlabeled(tmp_path / "more", kind))})
    plain = run(config.model_copy(update={"unlabeled": None}), tmp_path / "plain")

    examples = run(config, tmp_path / "out")

    manifest, before = (read_manifest(tmp_path / name, DataManifest) for name in ("out", "plain"))
    assert (manifest.unlabeled.count, manifest.skipped_count) == (25, 0)
    assert before.unlabeled is None
    assert manifest.model_copy(update={"unlabeled": None}) == before
    assert examples.split_names == plain.split_names, "StatisticsGen reads none of them"
    assert examples.get_int_custom_property("unlabeled_images") == 25
    for split, names in manifest.shards.items():
        for name in names:
            place = f"Split-{split}/{name}"
            assert (tmp_path / "out" / place).read_bytes() == (tmp_path / "plain" / place).read_bytes()
    shards = [tmp_path / "out/Split-unlabeled" / name for name in manifest.unlabeled.shards]
    found = [batch for shard in shards for batch in iter_numpy(read_shard(str(shard), manifest.task))]
    assert sum(len(batch["id"]) for batch in found) == 25
    assert {label for batch in found for label in batch["label"].tolist()} == {-1}
    assert data_digest(config) != data_digest(config.model_copy(update={"unlabeled": None}))


def test_images_without_labels_are_limited_counted_when_bad_and_reported_when_held_out(tmp_path, caplog):
    config = save_images(tmp_path / "images", count=40).model_copy(update={"max_bad_fraction": 0.5})
    whole = run(config, tmp_path / "whole")
    held_out = read_manifest(tmp_path / "whole", DataManifest).counts["test"]
    # Copies of the labelled images: those of training images are ignored, the others are reported.
    more = tmp_path / "more"
    shutil.copytree(tmp_path / "images", more)
    (more / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    config = config.model_copy(update={"unlabeled": str(more)})

    with caplog.at_level(logging.WARNING):
        examples = run(config, tmp_path / "out")

    manifest = read_manifest(tmp_path / "out", DataManifest)
    assert (manifest.unlabeled.count, manifest.skipped_count) == (80, 1)
    assert manifest.duplicates["test/unlabeled"] == held_out
    assert manifest.duplicates["train/unlabeled"] == manifest.counts["train"]
    assert f"{held_out} images of unlabeled are also in test" in caplog.text
    assert "unlabeled are also in train" not in caplog.text
    assert whole.get_int_custom_property("duplicates") == 0
    assert examples.get_int_custom_property("duplicates") == held_out + manifest.counts["validation"]
    run(config, tmp_path / "limited", limit=50)
    assert read_manifest(tmp_path / "limited", DataManifest).unlabeled.count == 50


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, r"data\.unlabeled must be a folder of images, a \.npz file or TFRecord files; got .*more"),
        (lambda path: path.mkdir(), r"data\.unlabeled must hold images; got none at .*more"),
        (
            lambda path: np.savez(path.with_suffix(".npz"), pixels=np.zeros(3)),
            r"must hold images, train_images or x_train; got pixels",
        ),
    ],
)
def test_images_without_labels_that_are_not_there_are_refused(make, message, tmp_path):
    config = save_images(tmp_path / "images")
    make(tmp_path / "more")
    path = next(iter(tmp_path.glob("more*")), tmp_path / "more")

    with pytest.raises(DataError, match=message):
        run(config.model_copy(update={"unlabeled": str(path)}), tmp_path / "out")


def test_image_example_gen_says_that_images_are_stored_encoded(tmp_path):
    config = save_images(tmp_path / "images")
    for storage, said in (("encoded", "encoded"), ("auto", "raw")):
        examples = run(config.model_copy(update={"storage": storage}), tmp_path / storage)
        assert read_manifest(tmp_path / storage, DataManifest).storage == said
        assert examples.get_string_custom_property("storage") == (said if said != "raw" else "")
        assert ("storage" in (tmp_path / storage / "manifest.json").read_text()) is (said != "raw")
