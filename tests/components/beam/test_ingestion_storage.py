# SPDX-License-Identifier: Apache-2.0
"""Encoded examples take no more bytes than their sources, and are read as the same examples as raw ones."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from PIL import Image

from learn2compress.components.beam.ingestion import ingest
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.data.batches import iter_numpy
from learn2compress.data.batches import read_shard as read_with_tensorflow
from learn2compress.data.example_records import RAW_BYTES, SPLITS, choose_storage, make_plan
from learn2compress.data.sources.formats import open_source, resolve_task
from learn2compress.data.stored_examples import read_shard
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.manifests import Task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty smooth photographs as JPEG and, every fifth, as PNG."""
    rng = np.random.default_rng(0)
    for number in range(40):
        place = tmp_path / "images" / ("a" if number % 2 else "b")
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
        picture = coarse.resize((60 + number % 4, 48), Image.Resampling.BICUBIC)
        picture.save(place / f"{number:02}.{'jpg' if number % 5 else 'png'}")
    return tmp_path / "images"


def ingested(folder: Path, place: Path, storage: str) -> list[Path]:
    config = DataConfig(path=str(folder), height=40, width=50, channels=3, test_fraction=0.3, storage=storage)
    source = open_source(config, None)
    plan = make_plan(config, source, resolve_task(config, source), str(place), f"{place}-spill")
    ingest(beam.Pipeline(argv=direct_runner_args(1)), source.pieces, plan)
    return [path for split in SPLITS for path in sorted((place / f"Split-{split}").iterdir())]


def test_encoded_examples_are_those_of_raw_ones_in_fewer_bytes(folder, tmp_path):
    raw, encoded = (ingested(folder, tmp_path / storage, storage) for storage in ("raw", "encoded"))
    assert [path.relative_to(tmp_path / "raw") for path in raw] == [
        path.relative_to(tmp_path / "encoded") for path in encoded
    ]
    task = Task(input_shape=(40, 50, 3), classes=["a", "b"])
    kinds = set()
    for one, other in zip(raw, encoded, strict=True):
        for stored, packed in zip(read_shard(one, task), read_shard(other, task), strict=True):
            assert stored[:3] == packed[:3]
            assert np.array_equal(stored.content, packed.content)
            kinds.add(packed.encoded[:3])
            if packed.source.endswith(".jpg"):
                assert len(packed.encoded) <= (folder / packed.source).stat().st_size
        for batch, of_packed in zip(
            *(iter_numpy(read_with_tensorflow(str(p), task)) for p in (one, other)), strict=True
        ):
            assert all(np.array_equal(batch[key], of_packed[key]) for key in batch)
    assert kinds == {b"\xff\xd8\xff", b"RIF"}
    assert sum(p.stat().st_size for p in encoded) < sum(p.stat().st_size for p in raw) / 3


def test_choose_storage_depends_on_the_size_of_an_image_and_of_all():
    photograph, auto = 224 * 224 * 3, DataConfig(path="x")
    most = RAW_BYTES // photograph
    assert choose_storage(auto, most, photograph) == "raw"
    assert choose_storage(auto, most + 1, photograph) == "encoded"
    assert choose_storage(auto, 10**8, 32 * 32 * 3) == "raw"
    assert choose_storage(DataConfig(path="x", storage="raw"), 10**8, photograph) == "raw"
    assert choose_storage(DataConfig(path="x", storage="encoded"), 1, 8) == "encoded"
