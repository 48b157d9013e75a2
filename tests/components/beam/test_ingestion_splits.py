# SPDX-License-Identifier: Apache-2.0
"""The split of an image follows from its source alone; copies are found by what a model sees."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from PIL import Image

from learn2compress.components.beam.ingestion import ingest
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.data.example_records import SPLITS, Plan, make_plan, make_record
from learn2compress.data.raw_examples import RawExample
from learn2compress.data.sources.formats import open_source, resolve_task
from learn2compress.data.stored_examples import read_shard
from learn2compress.modalities import modality_of
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.manifests import Task

FORMS = [(2, 2, 1), (5, 7, 3), (40, 30, 3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty pictures of several sizes, grey and colour."""
    rng = np.random.default_rng(0)
    for number in range(60):
        place = tmp_path / "images" / ("a" if number % 2 else "b")
        place.mkdir(parents=True, exist_ok=True)
        size = (7 + number % 3, 9, *([3] if number % 4 else []))
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(place / f"{number:02}.png")
    return tmp_path / "images"


def stored(config: DataConfig, place: Path) -> tuple[dict[str, tuple[str, str]], dict[str, int]]:
    """Ingests; returns the split and the id of each source, and the numbers of duplicates."""
    source = open_source(config, None)
    task = resolve_task(config, source)
    plan = make_plan(config, source, task, str(place), f"{place}-spill")
    report = ingest(beam.Pipeline(argv=direct_runner_args(1)), source.pieces, plan)
    shards = [(split, path) for split in SPLITS for path in sorted((place / f"Split-{split}").iterdir())]
    found = {one.source: (split, one.id) for split, path in shards for one in read_shard(path, task)}
    return found, report["duplicates"]


def test_splits_and_ids_do_not_depend_on_height_width_and_channels(folder, tmp_path):
    found = []
    for number, (height, width, channels) in enumerate(FORMS):
        config = DataConfig(path=str(folder), height=height, width=width, channels=channels, test_fraction=0.3)
        found.append(stored(config, tmp_path / f"out{number}")[0])
    assert found[0] == found[1] == found[2]
    assert {split for split, _ in found[0].values()} == set(SPLITS)


@pytest.mark.parametrize("shape", [(4, 5, 1), (4, 5, 3)])
def test_the_id_of_an_image_that_is_not_resized_is_that_of_its_stored_pixels(shape):
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    task = Task(input_shape=shape, classes=["a", "b"])
    made = make_record(RawExample("x", None, 0, image), Plan("", "", task, 0.5, 0.5, dict.fromkeys(SPLITS, 1), 1))
    records = modality_of(task).records(task)
    assert made.identity == records.digest(records.fit(image))[:8].hex() == made.content


def test_copies_in_grey_and_colour_are_counted_once_they_are_alike(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (40, 6, 6), np.uint8)
    for split, mode in (("train", "L"), ("test", "RGB")):
        for number, image in enumerate(pixels):
            place = tmp_path / "images" / split / ("a" if number % 2 else "b")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).convert(mode).save(place / f"{number:02}.png")
    config = DataConfig(path=str(tmp_path / "images"), height=4, width=4, channels=3)
    found, duplicates = stored(config, tmp_path / "out")
    assert duplicates["train/test"] + duplicates["validation/test"] == 40
    assert found["train/b/00.png"][1] != found["test/b/00.png"][1]


def test_copies_of_two_sizes_are_not_told_from_other_images(tmp_path):
    for split, side in (("train", 12), ("test", 9)):
        for number in range(40):
            place = tmp_path / "images" / split / ("a" if number % 2 else "b")
            place.mkdir(parents=True, exist_ok=True)
            whole = Image.fromarray(np.random.default_rng(number).integers(0, 256, (12, 12, 3), np.uint8))
            whole.resize((side, side), Image.Resampling.BILINEAR).save(place / f"{number:02}.png")
    config = DataConfig(path=str(tmp_path / "images"), height=6, width=6, channels=3)
    assert stored(config, tmp_path / "out")[1] == {}
