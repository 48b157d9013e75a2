# SPDX-License-Identifier: Apache-2.0
"""Pieces of every format are read through an exchange without the files of the step."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from learn2compress.components.beam.exchange import Exchange
from learn2compress.components.beam.pieces import offer_piece
from learn2compress.data.sources.formats import open_source
from learn2compress.data.sources.unlabeled import open_unlabeled
from learn2compress.schemas.config import DataConfig

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), np.uint8)
TEXTS = [f"the text of number {number}" for number in range(12)]


def folder(path):
    for number, image in enumerate(IMAGES):
        (path / f"class {number % 3}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / f"class {number % 3}" / f"{number}.png")
    return path


def csv(path):
    folder(path / "images")
    rows = [f"images/class {number % 3}/{number}.png,{number % 3}" for number in range(12)]
    (path / "data.csv").write_text("\n".join(["path,label", *rows]))
    return path / "data.csv"


def npz(path):
    path.mkdir()
    np.savez(path / "data.npz", images=IMAGES, labels=np.arange(12) % 3)
    return path / "data.npz"


def tfrecord(path):
    path.mkdir()
    with tf.io.TFRecordWriter(str(path / "data.tfrecord")) as writer:
        for number, image in enumerate(IMAGES):
            example = tf.train.Example()
            feature = example.features.feature
            feature["image/encoded"].bytes_list.value.append(tf.io.encode_png(image).numpy())
            feature["image/class/label"].int64_list.value.append(number % 3)
            writer.write(example.SerializeToString())
    return path / "data.tfrecord"


def text_folder(path):
    for number, text in enumerate(TEXTS):
        (path / f"class {number % 3}").mkdir(parents=True, exist_ok=True)
        (path / f"class {number % 3}" / f"{number}.txt").write_text(text)
    return path


def text_csv(path):
    path.mkdir()
    rows = [f"{text},{number % 3}" for number, text in enumerate(TEXTS)]
    (path / "data.csv").write_text("\n".join(["text,label", *rows]))
    return path / "data.csv"


def jsonl(path):
    path.mkdir()
    rows = [json.dumps({"text": text, "label": str(number % 3)}) for number, text in enumerate(TEXTS)]
    (path / "data.jsonl").write_text("\n".join(rows))
    return path / "data.jsonl"


def read(pieces):
    return [(raw.source, raw.part, raw.label, np.asarray(raw.content).tobytes()) for p in pieces for raw in p.read()]


@pytest.mark.parametrize("write", [folder, csv, npz, tfrecord, text_folder, text_csv, jsonl])
def test_offered_pieces_are_read_without_the_files_of_the_step(write, store, tmp_path):
    path = write(tmp_path / "data")
    unlabeled = path.parent / "images" if write is csv else path  # a list of files has labels
    config = DataConfig(path=str(path), unlabeled=str(unlabeled))
    pieces = [*open_source(config).pieces, *open_unlabeled(config).pieces]
    expected = read(pieces)

    with Exchange("s3://bucket/exchange") as exchange:
        offered = [offer_piece(piece, exchange) for piece in pieces]
        (tmp_path / "data").rename(tmp_path / "away")
        assert read(offered) == expected
    assert len(expected) == 24
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
