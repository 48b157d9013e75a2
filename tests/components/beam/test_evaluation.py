# SPDX-License-Identifier: Apache-2.0
"""How the evaluator's work is divided among workers."""

import itertools

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from learn2compress.components.beam.evaluation import ModelToRun, Shard, cut_pieces, workers_of
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.schemas.manifests import Task

TASK = Task(input_shape=(2, 2, 1), classes=["a", "b"])
SHARDS = [Shard(split, order, f"{split}{order}", None) for split in ("validation", "test") for order in range(2)]
MODELS = [ModelToRun(f"model {i}", f"{i}.tflite", str(i)) for i in range(5)]


@pytest.mark.parametrize(
    ("least", "pieces", "most_files"),
    [
        (1, 4, 5),  # a shard with all files
        (4, 4, 5),
        (5, 8, 3),  # each shard twice
        (12, 12, 2),
        (1000, 20, 1),  # a shard with one file: more pieces there are not
    ],
)
def test_cut_pieces_gives_a_shard_out_more_than_once_only_where_shards_are_few(least, pieces, most_files):
    found = cut_pieces(SHARDS, MODELS, TASK, least)

    assert len(found) == pieces
    sizes = [len(piece.models) for piece in found]
    assert max(sizes) == most_files
    assert max(sizes) - min(sizes) <= 1
    # Each file runs on each shard once.
    ran = [(piece.shard, model) for piece in found for model in piece.models]
    assert sorted(ran, key=str) == sorted(itertools.product(SHARDS, MODELS), key=str)


@pytest.mark.parametrize(("shards", "models"), [([], MODELS), (SHARDS, []), ([], [])])
def test_cut_pieces_has_nothing_to_give_out_without_shards_or_files(shards, models):
    assert cut_pieces(shards, models, TASK, 6) == []


@pytest.mark.parametrize(
    ("arguments", "workers"),
    [
        (direct_runner_args(3), 3),
        (["--direct_num_workers=2"], 2),
        (["--runner=DirectRunner", "--direct_num_workers=4"], 4),
        (["--runner=FlinkRunner"], 16),
    ],
)
def test_workers_of_are_those_of_the_direct_runner_or_many(arguments, workers):
    assert workers_of(PipelineOptions(arguments)) == workers
