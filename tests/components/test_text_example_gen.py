# SPDX-License-Identifier: Apache-2.0
import csv
import logging
from pathlib import Path

import pytest
import tensorflow_data_validation as tfdv
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
from learn2compress.components.text_example_gen import TextExampleGen, TextExampleGenExecutor
from learn2compress.data.batches import iter_numpy, read_examples, read_shard
from learn2compress.data.sources.formats import data_digest
from learn2compress.data.stored_examples import read_shard as read_without_tensorflow
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import DataManifest, read_manifest

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def sentences(count, start=0):
    return [f"{WORDS[i % 10]} {WORDS[i // 10 % 10]}, Nr. {i} 😀" for i in range(start, start + count)]


def write_csv(path: Path, rows, names=("text", "label")) -> DataConfig:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([names, *rows])
    return DataConfig(path=str(path))


def run(config: DataConfig, folder) -> standard_artifacts.Examples:
    """Runs the executor as TFX does; returns the artifact."""
    examples = standard_artifacts.Examples()
    examples.uri = str(folder)
    executor = TextExampleGenExecutor(BaseBeamExecutor.Context(beam_pipeline_args=direct_runner_args(1)))
    values = TextExampleGen.encode(data=config) | {"data_digest": "d" * 64, "code_version": ""}
    executor.Do({}, {"examples": [examples]}, values)
    return examples


def contents(folder, split):
    return [text.decode() for batch in iter_numpy(read_examples(folder, split)) for text in batch["example"].tolist()]


def test_text_example_gen_stores_texts_as_given(tmp_path):
    odd = ["Cafe\u0301 GROSS", "مرحبا بالعالم", "", "x " * 5000, "né\nzwei"]
    rows = [(text, "ab"[i % 2]) for i, text in enumerate([*sentences(60), *odd])]

    examples = run(write_csv(tmp_path / "x.csv", rows), tmp_path / "out")

    manifest = read_manifest(tmp_path / "out", DataManifest)
    assert (manifest.task.modality, manifest.task.input_shape, manifest.task.classes) == ("text", (16,), ["a", "b"])
    stored = [text for split in manifest.counts for text in contents(tmp_path / "out", split)]
    assert sorted(stored) == sorted([*sentences(60), "Café GROSS", *odd[1:]])
    assert examples.get_int_custom_property("duplicates") == 0
    assert examples.get_int_custom_property("near_duplicates") == 0
    shard = tmp_path / "out/Split-train" / manifest.shards["train"][0]
    (batch,) = read_shard(str(shard), manifest.task)
    found = [example.content for example in read_without_tensorflow(shard, manifest.task)]
    assert found == batch["example"].numpy().tolist()
    assert "texts without a word" in manifest.notes[0]


def test_texts_of_equal_words_are_in_the_same_split_without_stated_splits(tmp_path):
    rows = [(variant, "ab"[i % 2]) for i, text in enumerate(sentences(80)) for variant in (text, f"{text.upper()}!")]

    run(write_csv(tmp_path / "x.csv", rows), tmp_path / "out")

    held_out = contents(tmp_path / "out", "test") + contents(tmp_path / "out", "validation")
    assert sum(text.endswith("!") for text in held_out) == len(held_out) / 2 > 0
    assert read_manifest(tmp_path / "out", DataManifest).near_duplicates == {}


def test_a_group_is_in_one_split(tmp_path):
    rows = [(text, "ab"[i % 2], f"user {i // 5}") for i, text in enumerate(sentences(200))]

    run(write_csv(tmp_path / "x.csv", rows, ("text", "label", "group")), tmp_path / "out")

    group_of = {text: group for text, _, group in rows}
    splits = {split: {group_of[text] for text in contents(tmp_path / "out", split)} for split in ("train", "test")}
    assert splits["test"]
    assert not splits["train"] & splits["test"]
    assert read_manifest(tmp_path / "out", DataManifest).counts["test"] % 5 == 0


def test_duplicates_between_stated_splits_are_counted_and_told(tmp_path, caplog):
    train, test = sentences(60), sentences(20, 100)
    rows = [(text, "ab"[i % 2], "train") for i, text in enumerate(train)]
    rows += [(text, "ab"[i % 2], "test") for i, text in enumerate(test)]
    rows += [(train[0], "a", "test"), (train[1].upper(), "b", "test"), (f"- {train[2]}", "a", "test")]

    with caplog.at_level(logging.WARNING):
        examples = run(write_csv(tmp_path / "x.csv", rows, ("text", "label", "split")), tmp_path / "out")

    manifest = read_manifest(tmp_path / "out", DataManifest)
    exact = {pair: count for pair, count in manifest.duplicates.items() if "test" in pair}
    assert sum(exact.values()) == examples.get_int_custom_property("duplicates") == 1
    assert sum(manifest.near_duplicates.values()) == examples.get_int_custom_property("near_duplicates") == 2
    assert "1 texts of test are also in" in caplog.text
    assert "texts of test have the words of a text in train, with other punctuation or case" in caplog.text


def test_texts_in_two_classes_are_told(tmp_path):
    rows = [(text, "ab"[i % 2]) for i, text in enumerate(sentences(60))] + [("alpha ALPHA nr 0", "b")]
    rows[0] = ("Alpha alpha, Nr. 0", "a")

    run(write_csv(tmp_path / "x.csv", rows), tmp_path / "out")

    (note,) = read_manifest(tmp_path / "out", DataManifest).notes
    assert note == (
        "texts whose words occur in more than one class, 1, for example x.csv#0 and x.csv#60: their labels contradict "
        "each other"
    )


def test_text_example_gen_refuses_too_many_bad_rows(tmp_path):
    path = tmp_path / "x.csv"
    lines = [f"{text.replace(',', '')},{'ab'[i % 2]}".encode() for i, text in enumerate(sentences(60))]
    path.write_bytes(b"\n".join([b"text,label", *lines, b"gr\xfc\xdfe,a", b"sch\xf6n,b"]))

    with pytest.raises(DataError, match=r"at most 1.00% of the texts in .* may be unreadable; got 2 of 62: x.csv#60"):
        run(DataConfig(path=str(path)), tmp_path / "out")


def test_texts_without_labels_are_stored_beside_the_splits(tmp_path):
    config = write_csv(tmp_path / "x.csv", [(text, "ab"[i % 2]) for i, text in enumerate(sentences(60))])
    write_csv(tmp_path / "more.csv", [(text,) for text in sentences(30, 50)], ("text",))

    examples = run(config.model_copy(update={"unlabeled": str(tmp_path / "more.csv")}), tmp_path / "out")

    manifest = read_manifest(tmp_path / "out", DataManifest)
    assert manifest.unlabeled.count == examples.get_int_custom_property("unlabeled_images") == 30
    (batch,) = read_shard(str(tmp_path / "out/Split-unlabeled" / manifest.unlabeled.shards[0]), manifest.task)
    assert set(batch["label"].numpy()) == {-1}
    assert sorted(text.decode() for text in batch["example"].numpy()) == sorted(sentences(30, 50))


@pytest.mark.e2e
@pytest.mark.slow
def test_text_example_gen_feeds_the_standard_nodes(tmp_path):
    data = write_csv(tmp_path / "x.csv", [(text, "ab"[i % 2]) for i, text in enumerate(sentences(200))])
    generator = TextExampleGen(configured(data=data), {}, data_digest=data_digest(data), code_version="")
    options = statistics_options("text")
    statistics = StatisticsGen(examples=generator.outputs["examples"], stats_options=options)
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
            for kind in ("ExampleStatistics", "Schema", "ExampleAnomalies")
        }
    found = io_utils.SchemaReader().read(by_type["Schema"].uri + "/schema.pbtxt")
    assert {feature.name for feature in found.feature} == {"label", "words", "characters"}
    anomalies = anomalies_pb2.Anomalies()
    anomalies.ParseFromString(Path(by_type["ExampleAnomalies"].uri, "Split-test", "SchemaDiff.pb").read_bytes())
    assert not anomalies.anomaly_info
    (dataset,) = tfdv.load_stats_binary(f"{by_type['ExampleStatistics'].uri}/Split-train/FeatureStats.pb").datasets
    assert dataset.num_examples > 100
