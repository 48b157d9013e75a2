# SPDX-License-Identifier: Apache-2.0
"""Tests how the evaluator's work is divided among workers."""

import hashlib
import itertools

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from learn2compress.components.beam import evaluation
from learn2compress.components.beam.evaluation import ModelToRun, Piece, RunModels, Shard, cut_pieces, workers_of
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.evaluation.measure import Batch
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.manifests import DataManifest, Task, read_manifest

TASK = Task(input_shape=(2, 2, 1), classes=["a", "b"])
SHARDS = [Shard(split, order, f"{split}{order}", None) for split in ("validation", "test") for order in range(2)]
MODELS = [ModelToRun(f"model {i}", f"{i}.tflite", str(i)) for i in range(5)]


@pytest.mark.parametrize(
    ("least", "pieces", "most_files"),
    [
        (1, 4, 5),  # a shard with all files
        (4, 4, 5),
        (5, 8, 3),  # each shard is assigned twice
        (12, 12, 2),
        (1000, 20, 1),  # a shard with one file is the smallest piece
    ],
)
def test_cut_pieces_assigns_a_shard_repeatedly_only_when_shards_are_few(least, pieces, most_files):
    found = cut_pieces(SHARDS, MODELS, TASK, least)

    assert len(found) == pieces
    sizes = [len(piece.models) for piece in found]
    assert max(sizes) == most_files
    assert max(sizes) - min(sizes) <= 1
    # Each file runs on each shard once.
    ran = [(piece.shard, model) for piece in found for model in piece.models]
    assert sorted(ran, key=str) == sorted(itertools.product(SHARDS, MODELS), key=str)


@pytest.mark.parametrize(("shards", "models"), [([], MODELS), (SHARDS, []), ([], [])])
def test_cut_pieces_is_empty_without_shards_or_files(shards, models):
    assert cut_pieces(shards, models, TASK, 6) == []


@pytest.mark.parametrize(
    ("arguments", "workers"),
    [
        (direct_runner_args(1), 1),
        (["--direct_num_workers=2"], 2),
        (["--runner=DirectRunner", "--direct_num_workers=4"], 4),
        (["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner", "--direct_num_workers=3"], 3),
        (["--runner=FlinkRunner"], 16),
    ],
)
def test_workers_of_reads_the_direct_runners_options_or_assumes_many(arguments, workers):
    assert workers_of(PipelineOptions(arguments)) == workers


FOUR = Task(input_shape=(2, 2, 1), classes=["a", "b", "c", "d"])


@pytest.fixture
def reads(monkeypatch):
    """Replaces reading by three batches of one image each; lists the shards that are read."""
    read = []

    def batches(shard, _):
        read.append(shard)
        for i in range(3):
            image = np.zeros((1, 2, 2, 1), np.uint8)
            image.reshape(-1)[i] = 255
            yield Batch(np.array([i], np.uint64), [f"image {i}"], np.array([i], np.int32), image, None)

    monkeypatch.setattr(evaluation, "read_batches", batches)
    return read


@pytest.fixture
def models(tmp_path, brightest_pixel_tflite):
    """Three files that differ in their number of trailing zero bytes."""
    found = []
    for i in range(3):
        data = brightest_pixel_tflite + bytes(i)
        (tmp_path / f"{i}.tflite").write_bytes(data)
        found.append(ModelToRun(f"model {i}", str(tmp_path / f"{i}.tflite"), hashlib.sha256(data).hexdigest()))
    return tuple(found)


def test_run_models_reads_a_shard_once_for_all_files(reads, models):
    found = list(RunModels().process(Piece(SHARDS[3], models, FOUR)))

    assert reads == [SHARDS[3]]
    assert [key for key, _ in found] == [("test", model.name) for model in models]
    for _, (order, tally) in found:
        assert order == 1
        assert tally.classes.tolist() == tally.labels.tolist() == [0, 1, 2]


def test_run_models_names_a_file_that_has_changed(reads, models):
    changed = ModelToRun("changed", models[1].path, "0" * 64)

    with pytest.raises(ModelFileError, match=r"1\.tflite must have SHA-256 000.*it changed while it was evaluated"):
        list(RunModels().process(Piece(SHARDS[0], (models[0], changed), FOUR)))
    assert reads == []


def test_run_models_as_a_job_keeps_no_file_open_in_this_process(reads, models, tmp_path):
    pipeline = beam.Pipeline(argv=direct_runner_args(1))

    tallies = evaluation.run_models(pipeline, SHARDS[2:], models, FOUR, tmp_path / "tallies")

    assert len(reads) >= 2
    assert {name for _, name in tallies} == {model.name for model in models}
    assert evaluation._open_models == {}


def test_read_batches_bounds_the_bytes_of_large_examples(stripes_artifacts, monkeypatch):
    folder = stripes_artifacts[0]
    manifest = read_manifest(folder, DataManifest)
    shard = Shard("train", 0, str(folder / "Split-train" / manifest.shards["train"][0].split("/")[-1]), None)
    (whole,) = evaluation.read_batches(shard, manifest.task)

    monkeypatch.setattr(evaluation, "BATCH_BYTES", 5 * whole.examples[0].nbytes)

    batches = list(evaluation.read_batches(shard, manifest.task))
    assert {len(batch.ids) for batch in batches[:-1]} == {5}
    np.testing.assert_array_equal(np.concatenate([batch.examples for batch in batches]), whole.examples)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), whole.labels)
