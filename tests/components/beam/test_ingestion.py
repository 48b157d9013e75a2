# SPDX-License-Identifier: Apache-2.0
import filecmp
import hashlib

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from learn2compress.components.beam.ingestion import ingest
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.data import example_records
from learn2compress.data.example_records import SPLITS, Plan, make_plan, make_record
from learn2compress.data.raw_examples import ExampleSource, RawExample
from learn2compress.data.record_files import read_records
from learn2compress.data.sources import npz as npz_source
from learn2compress.data.sources.formats import open_source, resolve_task
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import Task


def run(config: DataConfig, folder, workers: int = 1, limit=None) -> tuple[dict, Plan]:
    source = open_source(config, limit)
    spill = folder.with_name(folder.name + "-spill")
    plan = make_plan(config, source, resolve_task(config, source), str(folder), str(spill))
    return ingest(beam.Pipeline(argv=direct_runner_args(workers)), source.pieces, plan), plan


def records(folder, split) -> list[tf.train.Example]:
    return [
        tf.train.Example.FromString(data)
        for path in sorted((folder / f"Split-{split}").iterdir())
        for data in read_records(path)
    ]


def value(record, name):
    feature = record.features.feature[name]
    return getattr(feature, feature.WhichOneof("kind")).value[0]


def save_npz(path, **arrays) -> DataConfig:
    np.savez(path, **arrays)
    return DataConfig(path=str(path))


@pytest.fixture
def random_npz(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (900, 4, 4, 3), np.uint8)
    return save_npz(tmp_path / "data.npz", images=images, labels=np.arange(900) % 3)


def test_ingest_writes_records_as_the_manifest_describes_them(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 5, 1), np.uint8)
    config = save_npz(tmp_path / "data.npz", train_images=images[:50], train_labels=np.arange(50) % 2,
                      test_images=images[50:], test_labels=np.arange(10) % 2)  # fmt: skip
    report, plan = run(config, tmp_path / "out")
    assert plan.shards == {"train": 1, "validation": 1, "test": 1}
    found = {value(record, "source").decode(): record for record in records(tmp_path / "out", "test")}
    assert sorted(found) == sorted(f"test_images[{i}]" for i in range(10))
    record = found["test_images[3]"]
    assert value(record, "image") == images[53].tobytes()
    assert value(record, "label") == 1
    assert value(record, "id").decode() == hashlib.sha256(b"4x5x1:" + images[53].tobytes()).hexdigest()[:16]
    assert (value(record, "original_height"), value(record, "original_width")) == (4, 5)
    assert value(record, "brightness") == pytest.approx(images[53].mean() / 255)
    assert report["examples"]["test"] == {"0": 5, "1": 5}
    assert sum(report["examples"]["train"].values()) + sum(report["examples"]["validation"].values()) == 50


def test_ingest_orders_records_by_id_and_names_shards_as_tfx_does(tmp_path, random_npz, monkeypatch):
    monkeypatch.setattr(example_records, "EXAMPLES_A_SHARD", 200)
    _, plan = run(random_npz, tmp_path / "out")
    assert plan.shards["train"] == 4
    names = sorted(path.name for path in (tmp_path / "out" / "Split-train").iterdir())
    assert names == [f"data_tfrecord-{shard:05d}-of-00004.gz" for shard in range(4)]
    for shard, name in enumerate(names):
        ids = [
            value(tf.train.Example.FromString(data), "id").decode()
            for data in read_records(tmp_path / "out" / "Split-train" / name)
        ]
        assert ids == sorted(ids)
        assert {int(identity, 16) % 4 for identity in ids} == {shard}
        assert (tmp_path / "out" / "Split-train" / name).read_bytes()[4:8] == bytes(4)  # the gzip header holds no time


@pytest.mark.slow
def test_ingest_writes_the_same_bytes_for_any_number_of_workers_and_pieces(tmp_path, random_npz, monkeypatch):
    report, _ = run(random_npz, tmp_path / "one", workers=1)
    monkeypatch.setattr(npz_source, "PIECE_BYTES", 48 * 100)
    other, _ = run(random_npz, tmp_path / "two", workers=2)
    assert other == report
    for split in SPLITS:
        one, two = (tmp_path / name / f"Split-{split}" for name in ("one", "two"))
        names = sorted(path.name for path in one.iterdir())
        assert sorted(path.name for path in two.iterdir()) == names
        assert filecmp.cmpfiles(one, two, names, shallow=False)[0] == names


def test_ingest_keeps_the_split_of_an_image_when_data_are_added(tmp_path, random_npz):
    run(random_npz, tmp_path / "all")
    run(random_npz, tmp_path / "some", limit=300)
    places = {
        folder: {value(r, "source"): split for split in SPLITS for r in records(tmp_path / folder, split)}
        for folder in ("all", "some")
    }
    assert len(places["some"]) == 300
    assert all(places["all"][source] == split for source, split in places["some"].items())


def test_ingest_uses_the_configured_fractions(tmp_path, random_npz):
    config = random_npz.model_copy(update={"test_fraction": 0.2, "validation_fraction": 0.5})
    report, _ = run(config, tmp_path / "out")
    counts = {split: sum(counted.values()) for split, counted in report["examples"].items()}
    assert counts["test"] == pytest.approx(180, abs=40)
    assert counts["validation"] == pytest.approx(360, abs=50)  # half of the rest
    assert sum(counts.values()) == 900


def test_ingest_keeps_the_parts_of_the_source(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 1), np.uint8)
    labels = np.arange(10) % 2
    config = save_npz(tmp_path / "data.npz", train_images=images[:10], train_labels=labels,
                      validation_images=images[10:20], validation_labels=labels,
                      test_images=images[20:], test_labels=labels)  # fmt: skip
    report, _ = run(config, tmp_path / "out")
    assert {split: sum(counted.values()) for split, counted in report["examples"].items()} == dict.fromkeys(SPLITS, 10)


def test_ingest_counts_and_names_duplicates(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), np.uint8)
    train = np.concatenate([images[:50], images[:2], images[:1]])  # image 0 three times, 1 twice
    test = np.concatenate([images[50:], images[:1], images[:1], images[5:6]])  # 0 twice, 5
    config = save_npz(tmp_path / "data.npz", train_images=train, train_labels=np.arange(53) % 2,
                      test_images=test, test_labels=np.arange(13) % 2)  # fmt: skip
    report, _ = run(config.model_copy(update={"validation_fraction": 1e-9}), tmp_path / "out")
    assert report["duplicates"] == {"test/test": 1, "train/test": 3, "train/train": 3}
    pairs = [tuple(pair) for pair in report["duplicate_examples"]]
    assert set(pairs[:2]) == {("train_images[0]", "test_images[10]"), ("train_images[5]", "test_images[12]")}
    assert set(pairs[2:]) == {
        ("train_images[0]", "train_images[50]"),
        ("train_images[1]", "train_images[51]"),
        ("test_images[10]", "test_images[11]"),
    }
    assert len(records(tmp_path / "out", "train")) == 53  # duplicates are kept


def test_ingest_puts_copies_into_one_split(tmp_path):
    images = np.repeat(np.random.default_rng(0).integers(0, 256, (100, 2, 2, 1), np.uint8), 2, axis=0)
    report, _ = run(save_npz(tmp_path / "data.npz", images=images, labels=np.arange(200) % 2), tmp_path / "out")
    assert set(report["duplicates"]) == {"train/train", "validation/validation", "test/test"}
    assert sum(report["duplicates"].values()) == 100


def test_ingest_counts_and_names_bad_files(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (3, 3), (number, len(label), ord(label))).save(
                tmp_path / "images" / label / f"{number}.png"
            )
    (tmp_path / "images" / "a" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    config = DataConfig(path=str(tmp_path / "images"), height=3, width=3, channels=3)
    report, _ = run(config, tmp_path / "out")
    assert report["bad_count"] == 1
    assert report["bad"][0][0] == "a/torn.jpg"
    assert sum(sum(counted.values()) for counted in report["examples"].values()) == 40


def test_ingest_converts_mixed_images_to_one_shape(tmp_path):
    for label, mode, size in (("a", "RGB", (9, 4)), ("b", "L", (3, 3))):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(20):
            Image.new(mode, size, number).save(tmp_path / "images" / label / f"{number}.png")
    config = DataConfig(path=str(tmp_path / "images"), height=5, width=6, channels=3)
    run(config, tmp_path / "out")
    found = [record for split in SPLITS for record in records(tmp_path / "out", split)]
    assert {len(value(record, "image")) for record in found} == {90}
    sizes = {(value(r, "label"), value(r, "original_height"), value(r, "original_width")) for r in found}
    assert sizes == {(0, 4, 9), (1, 3, 3)}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ingest_raises_the_original_error_of_a_source(tmp_path, workers):
    images = np.zeros((40, 2, 2, 1), np.int16)
    images[30] = 999
    config = save_npz(tmp_path / "data.npz", images=images, labels=np.arange(40) % 2)
    with pytest.raises(DataError, match=r"^.*data.npz: row 30 of images must hold pixels 0..255; got 999 to 999. Resc"):
        run(config, tmp_path / "out", workers)


def test_make_plan_counts_shards_by_bytes_and_examples():
    def shards(count, shape):
        source = ExampleSource(("a", "b"), {"train": count, "validation": 10, "test": 10}, shape, ())
        return make_plan(DataConfig(path="x"), source, Task(input_shape=shape, classes=["a", "b"]), "", "").shards

    assert shards(100, (8, 8, 1)) == {"train": 1, "validation": 1, "test": 1}
    assert shards(1200, (8, 8, 1))["train"] == 3
    assert shards(50_000, (32, 32, 3))["train"] == 10
    assert shards(10_000, (224, 224, 3))["train"] == 90
    assert shards(100_000, (8, 8, 1))["train"] == 8


def test_make_record_chooses_split_and_id_by_the_pixels():
    plan = Plan("", "", Task(input_shape=(2, 2, 1), classes=["a", "b"]), 0.3, 0.3, dict.fromkeys(SPLITS, 1), 1)
    pixels = np.array([[[1], [2]], [[3], [4]]], np.uint8)
    split, identity, content, *_ = make_record(RawExample("x", None, 0, pixels), plan)
    assert identity == content == hashlib.sha256(b"2x2x1:\x01\x02\x03\x04").hexdigest()[:16]
    assert make_record(RawExample("y", None, 1, pixels.copy()), plan)[:2] == (split, identity)
    assert make_record(RawExample("x", "test", 0, pixels), plan)[:2] == ("test", identity)
