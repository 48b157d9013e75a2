# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from PIL import Image

from learn2compress.data.sources.csv_list import csv_digest
from learn2compress.data.sources.formats import open_source
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError


def write_list(folder: Path, text: str) -> DataConfig:
    for number in range(4):
        Image.new("RGB", (4, 3), (number,) * 3).save(folder / f"{number}.png")
    (folder / "list.csv").write_text(text)
    return DataConfig(path=str(folder / "list.csv"))


def read(source) -> list:
    return [item for piece in source.pieces for item in piece.read()]


def test_open_csv_reads_paths_labels_and_splits(tmp_path):
    rows = "Label,filename,split\nrose,0.png,train\ndaisy,1.png,train\nrose,2.png,test\ndaisy,3.png,valid\n"
    source = open_source(write_list(tmp_path, rows))
    assert source.classes == ("daisy", "rose")
    assert source.counts == {"train": 2, "validation": 1, "test": 1}
    assert [(raw.part, raw.source, raw.label) for raw in read(source)] == [
        ("train", "1.png", 0),
        ("train", "0.png", 1),
        ("validation", "3.png", 0),
        ("test", "2.png", 1),
    ]


def test_open_csv_needs_no_header(tmp_path):
    source = open_source(write_list(tmp_path, "0.png,a\n1.png,b\n"))
    assert (source.classes, source.counts) == (("a", "b"), {None: 2})


def test_csv_digest_covers_the_images(tmp_path):
    config = write_list(tmp_path, "0.png,a\n1.png,b\n")
    before = csv_digest(config)
    Image.new("RGB", (4, 3), "red").save(tmp_path / "1.png")
    assert csv_digest(config) != before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "must list images; got no row"),
        ("0.png,a\n9.png,b\n", "row 2 of .* must name an image; got 9.png"),
        ("0.png,a\n1.png\n", "row 2 of .* must hold a path and a label"),
        ("path,label,split\n0.png,a,train\n1.png,b,later\n", "split in row 3 of .*; got 'later'"),
        ("path,label,split\n0.png,a,train\n1.png,b,\n", "each row of .* must name its split"),
    ],
)
def test_open_csv_refuses_what_is_no_list(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        open_source(write_list(tmp_path, rows))
