# SPDX-License-Identifier: Apache-2.0
"""TFRecords of other makers: `evaluate` reads them, or refuses them with a remedy that is followed to the end here."""

import json

import numpy as np
import pytest
import tensorflow as tf
from support.tiny_classifiers import Tiny, make_images, make_tiny

LABELS = np.arange(24) % 4
IMAGES = make_images(LABELS)


@pytest.fixture
def evaluate(type_in, tmp_path):
    """Writes records with `labels` under `name`, and runs `evaluate` on them."""

    def run(labels, *options, kind="", name="image/class/label", levels=Tiny.levels, more=None):
        place = tmp_path / "data" / "x-test-00000-of-00001"
        for path in (place, place.with_name("x-train-00000-of-00001")):
            path.parent.mkdir(exist_ok=True)
            with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type=kind)) as writer:
                for image, label, other in zip(IMAGES, labels, more if more is not None else labels, strict=True):
                    png = tf.train.Feature(bytes_list=tf.train.BytesList(value=[tf.io.encode_png(image).numpy()]))
                    features = {
                        "image/encoded": png,
                        name: _ints(label),
                        **({"one": _ints(other)} if more is not None else {}),
                    }
                    example = tf.train.Example(features=tf.train.Features(feature=features))
                    writer.write(example.SerializeToString())
        (tmp_path / "tiny.tflite").write_bytes(make_tiny(Tiny(levels=levels)))
        words = ["--data", tmp_path / "data", "--scaling", "none", "--json", "--runs", 1, *options]
        status, out, err = type_in("evaluate", tmp_path / "tiny.tflite", *words)
        return status, json.loads(out)[0]["accuracy"] if out else None, err

    return run


def _ints(values) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=np.atleast_1d(values)))


@pytest.mark.parametrize("kind", ["ZLIB", "GZIP", ""])
def test_evaluate_reads_compressed_records(evaluate, kind):
    assert evaluate(LABELS, kind=kind) == (0, 1.0, "")


def test_evaluate_shifts_labels_that_begin_at_one(evaluate):
    status, _, err = evaluate(LABELS + 1)
    assert status == 2
    assert "Set data.label_offset: 1 (evaluate: --label-offset 1) to count them from 1" in err
    assert evaluate(LABELS + 1, "--label-offset", 1) == (0, 1.0, "")


def test_evaluate_leaves_out_the_output_of_a_class_without_images(evaluate):
    levels = (0.5, *Tiny.levels)  # of the class 0, which no image is of
    status, _, err = evaluate(LABELS + 1, levels=levels)
    assert status == 2
    assert "leave that out: teacher.skip_class: 0 (evaluate: --skip-class 0)" in err
    assert evaluate(LABELS + 1, "--label-offset", 1, "--skip-class", 0, levels=levels) == (0, 1.0, "")


def test_evaluate_refuses_several_classes_an_image(evaluate):
    several = np.stack([LABELS, (LABELS + 1) % 4], axis=1)
    status, _, err = evaluate(several, more=LABELS)
    assert status == 2
    assert "(evaluate: --label-feature) to a feature of one value; images of several classes at once are not" in err
    assert evaluate(several, "--label-feature", "one", more=LABELS) == (0, 1.0, "")


def test_evaluate_asks_for_an_unusual_feature(evaluate):
    status, _, err = evaluate(LABELS, name="kind")
    assert status == 2
    assert "Set data.label_feature (evaluate: --label-feature)" in err
    assert evaluate(LABELS, "--label-feature", "kind", name="kind") == (0, 1.0, "")
