# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from learn2compress.data.raw_examples import EvenSample, ExampleSource
from learn2compress.data.sources.formats import data_digest, find_format, open_source, resolve_task
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.digests import file_sha256, tree_sha256
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import Task


@pytest.fixture
def folder(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / label / "1.png")
    return tmp_path / "images"


@pytest.fixture
def npz(tmp_path):
    np.savez(tmp_path / "data.npz", images=np.zeros((4, 5, 6, 3), np.uint8), labels=np.arange(4) % 2)
    return tmp_path / "data.npz"


def config(path, **options) -> DataConfig:
    return DataConfig(path=str(path), **options)


def test_find_format_tells_each_by_its_looks(folder, npz, tmp_path):
    (tmp_path / "records" / "deep").mkdir(parents=True)
    (tmp_path / "records" / "deep" / "train-00000-of-00001").touch()
    (tmp_path / "x.tfrecord").touch()
    assert find_format(config(folder)) == "folder"
    assert find_format(config(npz)) == "npz"
    assert find_format(config(tmp_path / "records")) == "tfrecord"
    assert find_format(config(tmp_path / "x.tfrecord")) == "tfrecord"
    assert find_format(config(tmp_path / "*.tfrecord")) == "tfrecord"
    assert find_format(config("digits")) == "digits"


def test_find_format_raises_when_there_is_nothing(tmp_path):
    for path in (tmp_path / "absent", tmp_path / "*.tfrecord"):
        with pytest.raises(DataError, match=r"data.path must be an existing file or folder; got .*\. Check the path"):
            find_format(config(path))


def test_find_format_raises_when_it_cannot_be_told(tmp_path):
    (tmp_path / "data.bin").touch()
    with pytest.raises(DataError, match=r"the format of .*data.bin cannot be told. Set data.format"):
        find_format(config(tmp_path / "data.bin"))
    assert find_format(config(tmp_path / "data.bin", format="npz")) == "npz"


def test_find_format_raises_when_the_configured_one_does_not_fit(folder, npz):
    with pytest.raises(DataError, match=r"data.path must be a folder where data.format is folder; got .*npz"):
        find_format(config(npz, format="folder"))
    with pytest.raises(DataError, match=r"data.path must be a file where data.format is npz; got .*images"):
        find_format(config(folder, format="npz"))
    with pytest.raises(DataError, match=r"data.path must be the word digits where data.format is; got .*images"):
        find_format(config(folder, format="digits"))


def test_open_source_reads_the_digits():
    source = open_source(config("digits"))
    assert source.classes == tuple("0123456789")
    assert source.counts == {"train": 1437, "test": 360}
    assert source.example_shape == (8, 8, 1)
    raws = [raw for piece in source.pieces for raw in piece.read()]
    assert len({raw.source for raw in raws}) == 1797
    assert max(int(raw.content.max()) for raw in raws) == 255
    assert raws[0].content.dtype == np.uint8
    assert raws[0].label == 0


def test_open_source_spaces_a_limit_over_the_digits():
    source = open_source(config("digits"), limit=100)
    assert source.counts == {"train": 100, "test": 100}
    labels = [raw.label for piece in source.pieces for raw in piece.read() if raw.part == "train"]
    assert np.bincount(labels).min() >= 5


def test_open_source_raises_when_the_limit_is_zero():
    with pytest.raises(DataError, match=r"limit must be at least 1; got 0"):
        open_source(config("digits"), limit=0)


def test_data_digest_is_of_the_content(folder, npz):
    assert data_digest(config(npz)) == file_sha256(npz)
    assert data_digest(config(folder)) == tree_sha256(folder)
    assert data_digest(config("digits")) == data_digest(config("digits", classes=[*"9876543210"]))
    before = data_digest(config(folder))
    Image.new("RGB", (4, 4), "red").save(folder / "a" / "1.png")
    assert data_digest(config(folder)) != before


def test_data_digest_raises_when_a_file_cannot_be_read(folder):
    (folder / "a" / "2.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(DataError, match=r"2.png must be readable; got: No such file or directory"):
        data_digest(config(folder))


def test_data_digest_imports_neither_tensorflow_nor_beam(npz):
    code = (
        "import sys\n"
        "from learn2compress.data.sources.formats import data_digest, open_source\n"
        "from learn2compress.schemas.config import DataConfig\n"
        f"config = DataConfig(path={str(npz)!r})\n"
        "data_digest(config), open_source(config)\n"
        "assert not {'tensorflow', 'apache_beam', 'tfx'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_resolve_task_prefers_the_config_then_the_default_then_the_source():
    source = ExampleSource(("a", "b"), {None: 4}, (5, 6, 3), ())
    assert resolve_task(config("x"), source) == Task(input_shape=(5, 6, 3), classes=["a", "b"])
    assert resolve_task(config("x"), source, default=(32, 32, 1)).input_shape == (32, 32, 1)
    assert resolve_task(config("x", height=7, channels=1), source).input_shape == (7, 6, 1)


def test_resolve_task_raises_when_nobody_says():
    source = ExampleSource(("a", "b"), {None: 4}, None, ())
    with pytest.raises(DataError, match=r"data.height and data.channels must be given, .*; got none. Set them to the"):
        resolve_task(config("x", width=3), source)


@pytest.mark.parametrize(("total", "limit"), [(10, None), (10, 1), (10, 3), (10, 10), (10, 25), (7, 5)])
def test_even_sample_takes_distinct_rows_in_order(total, limit):
    sample = EvenSample(total, limit)
    rows = [sample.row(position) for position in range(len(sample))]
    assert len(rows) == min(total, limit or total)
    assert rows == sorted(set(rows))
    assert rows[-1] < total
    gaps = np.diff(rows)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
