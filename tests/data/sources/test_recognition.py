# SPDX-License-Identifier: Apache-2.0
import pytest
import tensorflow as tf

from learn2compress.data.sources.recognition import find_modality
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError


@pytest.mark.parametrize(
    ("name", "content", "modality"),
    [
        ("x.csv", "text,label\n", "text"),
        ("x.csv", "path,label\n", "image"),
        ("x.csv", "photos/1.jpg,daisy\n", "image"),
        ("x.tsv", "", "text"),
        ("x.jsonl", "", "text"),
        ("x.parquet", "", "text"),
        ("x.npz", "", "image"),
        ("folder/a/1.txt", "", "text"),
        ("folder/a/1.png", "", "image"),
        ("folder/train.csv", "sentence,label\n", "text"),
    ],
)
def test_find_modality_reads_names_and_headers(tmp_path, name, content, modality):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)

    assert find_modality(DataConfig(path=str(tmp_path / name.split("/")[0]))) == modality


def test_find_modality_takes_a_folder_with_pictures_and_notes_as_images(tmp_path):
    for name in ("README.txt", "labels.csv", "a.jpg"):
        (tmp_path / name).write_text("text,label\n")

    assert find_modality(DataConfig(path=str(tmp_path))) == "image"
    assert find_modality(DataConfig(path=str(tmp_path), modality="text")) == "text"


@pytest.mark.parametrize(("feature", "modality"), [("text", "text"), ("image", "image"), ("image/encoded", "image")])
def test_find_modality_reads_the_first_record(tmp_path, feature, modality):
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"]))
    example = tf.train.Example(features=tf.train.Features(feature={feature: value}))
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
        writer.write(example.SerializeToString())

    assert find_modality(DataConfig(path=str(tmp_path / "x.tfrecord"))) == modality


def test_find_modality_refuses_a_table_of_texts_and_paths(tmp_path):
    (tmp_path / "x.csv").write_text("text,image,label\n")

    with pytest.raises(DataError, match=r"must be a table of texts or of images; got the columns image, text"):
        find_modality(DataConfig(path=str(tmp_path / "x.csv")))
