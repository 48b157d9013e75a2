# SPDX-License-Identifier: Apache-2.0
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from learn2compress.data.sources.tfrecord import holds_records, open_tfrecord, tfrecord_digest
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import BadFile


def encoded(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def example(image: bytes, label: int | str | list[int], image_name="image/encoded", label_name="image/class/label"):
    if isinstance(label, str):
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[label.encode()]))
    else:
        values = label if isinstance(label, list) else [label]
        feature = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    picture = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    features = tf.train.Features(feature={image_name: picture, label_name: feature})
    return tf.train.Example(features=features).SerializeToString(deterministic=True)


def write(path, records, kind=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type=kind)) as writer:
        for record in records:
            writer.write(record)


def ten(offset: int = 0) -> list[bytes]:
    return [example(encoded(offset + i), i % 3) for i in range(10)]


def open_at(path, limit=None, **options):
    return open_tfrecord(DataConfig(path=str(path), **options), limit)


def read(source) -> list:
    return [item for piece in source.pieces for item in piece.read()]


@pytest.mark.parametrize("kind", ["", "GZIP", "ZLIB"])
def test_open_tfrecord_reads_a_folder_by_the_splits_in_the_names(tmp_path, kind):
    write(tmp_path / "birds-train-00000-of-00002.tfrecord", ten(), kind)
    write(tmp_path / "birds-train-00001-of-00002.tfrecord", ten(10), kind)
    write(tmp_path / "birds-test.tfrecord", ten(20)[:4], kind)
    (tmp_path / "labels.txt").write_text("nothing to read")
    source = open_at(tmp_path)
    assert source.classes == ("0", "1", "2")
    assert source.counts == {"train": 20, "test": 4}
    raws = read(source)
    assert [raw.label for raw in raws if raw.part == "train"] == [i % 3 for i in range(10)] * 2
    assert {raw.source: int(raw.content[0, 0, 0]) for raw in raws}["birds-test.tfrecord#3"] == 23


def test_open_tfrecord_reads_the_splits_of_folders(tmp_path):
    write(tmp_path / "Split-train" / "data_tfrecord-00000-of-00001.gz", ten(), "GZIP")
    write(tmp_path / "Split-eval" / "data_tfrecord-00000-of-00001.gz", ten(), "GZIP")
    assert open_at(tmp_path).counts == {"train": 10, "validation": 10}


def test_open_tfrecord_leaves_files_without_a_split_to_be_split(tmp_path):
    write(tmp_path / "latest.tfrecord", ten())  # no "test"
    write(tmp_path / "constrained.tfrecord", ten())  # no "train"
    assert open_at(tmp_path / "*.tfrecord").counts == {None: 20}


def test_open_tfrecord_takes_names_for_labels(tmp_path):
    write(tmp_path / "a.tfrecord", [example(encoded(1), "rose"), example(encoded(2), "daisy")])
    source = open_at(tmp_path)
    assert source.classes == ("daisy", "rose")
    assert [raw.label for raw in read(source)] == [1, 0]
    assert [raw.label for raw in read(open_at(tmp_path, classes=["rose", "daisy"]))] == [0, 1]


def test_open_tfrecord_uses_the_configured_features(tmp_path):
    write(tmp_path / "a.tfrecord", [example(encoded(i), i, "picture", "kind") for i in range(2)])
    source = open_at(tmp_path, image_feature="picture", label_feature="kind")
    assert [raw.label for raw in read(source)] == [0, 1]


@pytest.mark.parametrize("limit", [1, 2, 7, 13, 20, 99])
def test_open_tfrecord_spaces_a_limit_evenly_over_all_files(tmp_path, limit):
    write(tmp_path / "a.tfrecord", ten())
    write(tmp_path / "b.tfrecord", ten(10)[:3])
    write(tmp_path / "c.tfrecord", ten(13)[:7])
    source = open_at(tmp_path, limit)
    taken = min(limit, 20)
    assert source.counts == {None: taken}
    assert [int(raw.content[0, 0, 0]) for raw in read(source)] == [i * 20 // taken for i in range(taken)]


def test_read_yields_a_picture_that_cannot_be_decoded(tmp_path):
    write(tmp_path / "a.tfrecord", [*ten(), example(b"no picture", 1)])
    bad = [item for item in read(open_at(tmp_path)) if isinstance(item, BadFile)]
    assert [item.source for item in bad] == ["a.tfrecord#10"]


def test_open_tfrecord_raises_when_a_file_is_cut_short(tmp_path):
    write(tmp_path / "a.tfrecord", ten())
    path = tmp_path / "a.tfrecord"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"a.tfrecord must be a whole TFRecord file; got record 9 of which it is cut"):
        open_at(tmp_path)


def test_open_tfrecord_raises_when_the_label_feature_is_missing(tmp_path):
    write(tmp_path / "a.tfrecord", [example(b"", 1, label_name="kind")])
    message = r"data.label_feature must be a feature of the records; got 'image/class/label', but .*record 0 has "
    with pytest.raises(DataError, match=message + r"image/encoded, kind. Set data.label_feature"):
        open_at(tmp_path)


def test_read_raises_when_the_image_feature_is_missing(tmp_path):
    write(tmp_path / "a.tfrecord", [example(b"", i, image_name="picture") for i in range(2)])
    with pytest.raises(DataError, match=r"data.image_feature must be .*; got 'image/encoded', but .*, picture. Set"):
        read(open_at(tmp_path))


def test_open_tfrecord_raises_when_a_label_is_many(tmp_path):
    write(tmp_path / "a.tfrecord", [example(b"", [1, 2])])
    with pytest.raises(
        DataError, match=r"'image/class/label' must be one value of .*; got 2 of int64_list in .*record 0"
    ):
        open_at(tmp_path)


def test_open_tfrecord_raises_when_a_record_is_no_example(tmp_path):
    write(tmp_path / "a.tfrecord", [b"\xff\xff\xff"])
    with pytest.raises(DataError, match=r"a.tfrecord, record 0 must be a tf.Example; got other bytes"):
        open_at(tmp_path)


def test_open_tfrecord_raises_when_test_has_a_class_that_train_lacks(tmp_path):
    write(tmp_path / "train.tfrecord", ten())
    write(tmp_path / "test.tfrecord", [example(encoded(1), 7)])
    with pytest.raises(
        DataError, match=r"classes of the test files of .* must be among those of the train .*; got '7'"
    ):
        open_at(tmp_path)


def test_read_raises_when_a_label_is_beyond_the_configured_classes(tmp_path):
    write(tmp_path / "a.tfrecord", ten())
    with pytest.raises(
        DataError, match=r"the label in .*record 2 must be one of the 2 classes; got 2. Name all classes"
    ):
        read(open_at(tmp_path, classes=["x", "y"]))


def test_open_tfrecord_raises_when_only_some_files_tell_their_split(tmp_path):
    write(tmp_path / "train.tfrecord", ten())
    write(tmp_path / "more.tfrecord", ten())
    with pytest.raises(DataError, match=r"either all or none of the files .* got more.tfrecord. Rename it"):
        open_at(tmp_path)


def test_open_tfrecord_raises_when_there_are_no_train_files(tmp_path):
    write(tmp_path / "test.tfrecord", ten())
    with pytest.raises(DataError, match=r"must hold train files; got test.tfrecord"):
        open_at(tmp_path)


def test_open_tfrecord_raises_when_files_hold_nothing(tmp_path):
    write(tmp_path / "train.tfrecord", ten())
    write(tmp_path / "test.tfrecord", [])
    with pytest.raises(DataError, match=r"the test files of .* must hold records; got none"):
        open_at(tmp_path)


def test_open_tfrecord_raises_when_labels_are_of_two_kinds_or_negative(tmp_path):
    write(tmp_path / "a.tfrecord", [example(b"", 1), example(b"", "rose")])
    with pytest.raises(DataError, match="must be all indices or all names; got both"):
        open_at(tmp_path)
    write(tmp_path / "a.tfrecord", [example(b"", -1), example(b"", 1)])
    with pytest.raises(DataError, match="must be indices from 0; got -1"):
        open_at(tmp_path)


def test_open_tfrecord_raises_when_there_is_a_single_class(tmp_path):
    write(tmp_path / "a.tfrecord", [example(b"", 0)] * 3)
    with pytest.raises(DataError, match=r"must hold at least two classes; got 0\. "):
        open_at(tmp_path)


def test_open_tfrecord_raises_when_the_folder_holds_no_such_files(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert not holds_records(tmp_path)
    with pytest.raises(DataError, match=r"must be a folder with files named \*.tfrecord\* or .*, which yields none"):
        open_at(tmp_path)


def test_tfrecord_digest_follows_content_and_names_alone(tmp_path):
    def digest(folder, **files):
        for name, records in files.items():
            write(tmp_path / folder / f"{name}.tfrecord", records)
        return tfrecord_digest(DataConfig(path=str(tmp_path / folder)))

    first = digest("one", a=ten(), b=ten(10))
    assert digest("two", a=ten(), b=ten(10)) == first
    assert tfrecord_digest(DataConfig(path=str(tmp_path / "two" / "*.tfrecord"))) == first
    assert digest("three", a=ten(), b=ten(11)) != first
    assert digest("four", a=ten(), c=ten(10)) != first


def test_open_tfrecord_says_how_to_shift_labels_from_one(tmp_path):
    write(tmp_path / "x-train.tfrecord", [example(encoded(i), 1 + i % 3) for i in range(9)])
    with pytest.raises(
        DataError,
        match=r"no example is of class 0. Set data.label_offset: 1 \(evaluate: --label-offset 1\) to count them from 1",
    ):
        open_at(tmp_path)
    source = open_at(tmp_path, label_offset=1)
    assert (source.classes, source.named) == (("1", "2", "3"), False)
    assert [raw.label for raw in read(source)] == [0, 1, 2] * 3
    named = open_at(tmp_path, label_offset=1, classes=["a", "b", "c"])
    assert [raw.label for raw in read(named)] == [0, 1, 2] * 3


def test_open_tfrecord_names_the_offset_when_named_classes_begin_at_one(tmp_path):
    write(tmp_path / "x-train.tfrecord", [example(encoded(i), 1 + i % 3) for i in range(9)])
    with pytest.raises(DataError, match=r"got 3\. .*where labels begin at 1, set data.label_offset: 1"):
        read(open_at(tmp_path, classes=["a", "b", "c"]))


@pytest.mark.parametrize("names", [("image", "label"), ("image/encoded", "label"), ("image_raw", "label")])
def test_open_tfrecord_knows_the_usual_names(tmp_path, names):
    write(tmp_path / "x-train.tfrecord", [example(encoded(i), i % 3, *names) for i in range(9)])
    assert [raw.label for raw in read(open_at(tmp_path))] == [0, 1, 2] * 3


def test_open_tfrecord_raises_when_a_zlib_file_is_cut_short(tmp_path):
    path = tmp_path / "x-train.tfrecord"
    write(path, ten(), "ZLIB")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="must be a whole TFRecord file"):
        open_at(tmp_path)
