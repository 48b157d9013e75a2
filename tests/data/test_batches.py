# SPDX-License-Identifier: Apache-2.0
import gzip
import shutil

import numpy as np
import pytest
import tensorflow as tf

from learn2compress.data.batches import iter_numpy, read_examples, read_shard, read_with_logits
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import (
    DataManifest,
    Task,
    TeacherLogitsManifest,
    ViewRecipe,
    manifest_sha256,
    read_manifest,
    write_manifest,
)

SHAPE = (2, 3, 1)
TASK = Task(input_shape=SHAPE, classes=[*"abcd"])
NAMES = ["data_tfrecord-00000-of-00002.gz", "data_tfrecord-00001-of-00002.gz"]
VIEWS, CLASSES = 2, 4


def record(**values) -> bytes:
    def feature(value):
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = tf.train.Features(feature={name: feature(value) for name, value in values.items()})
    return tf.train.Example(features=features).SerializeToString()


def write(path, records) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for item in records:
            writer.write(item)


def image(number: int) -> np.ndarray:
    return np.full(SHAPE, number, np.uint8)


def logits_of(number: int, views: int) -> np.ndarray:
    return np.arange(views * CLASSES).reshape(views, CLASSES) + 100 * number


def views_of(number: int, views: int) -> np.ndarray:
    return np.array([[-number, view, view % 2] for view in range(views)])


def write_logits(path, numbers, views) -> None:
    write(
        path,
        [
            record(
                id=b"%016x" % n,
                logits=logits_of(n, views).astype("<f2").tobytes(),
                views=views_of(n, views).astype("<i2").tobytes(),
            )
            for n in numbers
        ],
    )


@pytest.fixture
def folders(tmp_path):
    """Folders of seven images in two shards of each split, and of the teacher's logits for them."""
    examples, logits = tmp_path / "examples", tmp_path / "logits"
    held = {NAMES[0]: range(4), NAMES[1]: range(4, 7)}
    for split in ("train", "validation", "test"):
        for name, numbers in held.items():
            records = [record(image=image(n).tobytes(), label=n % CLASSES, id=b"%016x" % n) for n in numbers]
            write(examples / f"Split-{split}" / name, records)
            write_logits(logits / f"Split-{split}" / name, numbers, VIEWS if split == "train" else 1)
    shards = dict.fromkeys(("train", "validation", "test"), NAMES)
    write_manifest(
        examples,
        DataManifest(
            task=TASK,
            digest="d" * 64,
            counts=dict.fromkeys(shards, 7),
            per_class={split: [2, 2, 2, 1] for split in shards},
            shards=shards,
            duplicates={},
            duplicate_examples=[],
            skipped=[],
            skipped_count=0,
        ),
    )
    write_manifest(
        logits,
        TeacherLogitsManifest(
            teacher_sha256="t" * 64,
            data_digest="d" * 64,
            examples_sha256=manifest_sha256(examples),
            recipe=ViewRecipe(count=VIEWS, shift_pixels=(1, 1), flip=True, seed=0),
            classes=CLASSES,
            shards=shards,
            images=dict.fromkeys(shards, 7),
            forward_passes=14,
            check_passes=14,
            seconds=0.1,
        ),
    )
    return examples, logits


def test_read_examples_streams_batches_in_the_order_of_the_shards(folders):
    batches = list(iter_numpy(read_examples(folders[0], "validation", batch_size=3)))
    assert [len(batch["label"]) for batch in batches] == [3, 3, 1]
    images = np.concatenate([batch["example"] for batch in batches])
    assert images.dtype == np.uint8
    assert np.array_equal(images, np.stack([image(n) for n in range(7)]))
    assert np.concatenate([batch["label"] for batch in batches]).tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert np.concatenate([batch["id"] for batch in batches]).tolist() == [b"%016x" % n for n in range(7)]


def test_read_examples_shuffles_each_epoch_differently_by_the_seed(folders):
    def epochs(seed):
        dataset = read_examples(folders[0], "train", batch_size=7, shuffle_buffer=7, seed=seed)
        return [next(iter_numpy(dataset))["example"][:, 0, 0, 0].tolist() for _ in range(3)]

    first = epochs(1)
    assert len({tuple(epoch) for epoch in first}) > 1
    assert all(sorted(epoch) == list(range(7)) for epoch in first)
    assert epochs(2)[0] != epochs(1)[0]


def test_read_shard_reads_one_shard(folders):
    batches = list(iter_numpy(read_shard(str(folders[0] / "Split-train" / NAMES[1]), TASK)))
    assert batches[0]["example"][:, 0, 0, 0].tolist() == [4, 5, 6]


def test_read_shard_reads_the_partner_behind_each_example(folders):
    path = str(folders[0] / "Split-train" / NAMES[0])
    batches = list(iter_numpy(read_shard(path, TASK, batch_size=3, partners=True)))
    assert [batch["example"][:, 0, 0, 0].tolist() for batch in batches] == [[0, 1, 2], [3]]
    assert [batch["partner"][:, 0, 0, 0].tolist() for batch in batches] == [[1, 2, 3], [0]]


def test_read_examples_raises_when_a_shard_is_missing(folders):
    (folders[0] / "Split-test" / NAMES[1]).unlink()
    with pytest.raises(DataError, match=f"Split-test/{NAMES[1]} must exist"):
        read_examples(folders[0], "test")


def test_iter_numpy_raises_when_a_shard_is_damaged(folders):
    path = folders[0] / "Split-test" / NAMES[1]
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-9]))
    with pytest.raises(DataError, match=r"the shards of the examples and .* must be whole; got: .*truncated record"):
        list(iter_numpy(read_examples(folders[0], "test")))


@pytest.mark.parametrize(("split", "views"), [("train", VIEWS), ("test", 1)])
def test_read_with_logits_pairs_each_image_with_its_logits(folders, split, views):
    (batch,) = iter_numpy(read_with_logits(*folders, split))
    assert batch["logits"].dtype == np.float32
    assert np.array_equal(batch["logits"], np.stack([logits_of(n, views) for n in range(7)]))
    assert batch["views"].dtype == np.int16
    assert np.array_equal(batch["views"], np.stack([views_of(n, views) for n in range(7)]))
    assert batch["example"][:, 0, 0, 0].tolist() == list(range(7))


def test_read_with_logits_keeps_the_pairs_when_shuffling(folders):
    (batch,) = iter_numpy(read_with_logits(*folders, "train", shuffle_buffer=7, seed=3))
    order = batch["example"][:, 0, 0, 0].tolist()
    assert order != list(range(7))
    assert (batch["logits"][:, 0, 0] / 100).tolist() == order


def test_read_with_logits_keeps_partners_within_their_shard_when_shuffling(folders):
    logits = read_manifest(folders[1], TeacherLogitsManifest)
    recipe = logits.recipe.model_copy(update={"mixed": True})
    write_manifest(folders[1], logits.model_copy(update={"recipe": recipe}))
    for name, numbers in {NAMES[0]: range(4), NAMES[1]: range(4, 7)}.items():
        path = folders[1] / "Split-train" / name
        records = [
            record(
                id=b"%016x" % n,
                logits=logits_of(n, VIEWS).astype("<f2").tobytes(),
                views=np.full((VIEWS, 4), 256, "<i2").tobytes(),
            )
            for n in numbers
        ]
        write(path, records)
    (batch,) = iter_numpy(read_with_logits(*folders, "train", shuffle_buffer=7, seed=3))
    order = batch["example"][:, 0, 0, 0].tolist()
    assert order != list(range(7))
    behind = {0: 1, 1: 2, 2: 3, 3: 0, 4: 5, 5: 6, 6: 4}
    assert batch["partner"][:, 0, 0, 0].tolist() == [behind[n] for n in order]
    assert (batch["logits"][:, 0, 0] / 100).tolist() == order


def test_read_with_logits_raises_when_the_logits_are_of_other_examples(folders):
    """The other examples are those of the same source with another split."""
    manifest = DataManifest.model_validate_json((folders[0] / "manifest.json").read_text())
    write_manifest(folders[0], manifest.model_copy(update={"counts": manifest.counts | {"train": 8}}))
    found, named = (
        manifest_sha256(folders[0]),
        TeacherLogitsManifest.model_validate_json((folders[1] / "manifest.json").read_text()).examples_sha256,
    )
    with pytest.raises(DataError, match=f"SHA-256 {found[:12]}…; got those of {named[:12]}. Run the teacher again"):
        read_with_logits(*folders, "train")


def test_read_with_logits_raises_when_the_logits_name_no_examples(folders):
    manifest = TeacherLogitsManifest.model_validate_json((folders[1] / "manifest.json").read_text())
    write_manifest(folders[1], manifest.model_copy(update={"examples_sha256": ""}))
    with pytest.raises(DataError, match=r"got those of unknown ones\. Run the teacher again"):
        read_with_logits(*folders, "train")


def test_read_with_logits_raises_when_a_shard_of_logits_is_missing(folders):
    shutil.rmtree(folders[1] / "Split-train")
    with pytest.raises(DataError, match=r"logits/Split-train/.* must exist"):
        read_with_logits(*folders, "train")


def test_iter_numpy_raises_when_a_shard_of_logits_is_damaged(folders):
    path = folders[1] / "Split-train" / NAMES[0]
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-9]))
    with pytest.raises(
        DataError, match=r"shards of the examples and of the teacher's outputs must be whole.*truncated"
    ):
        list(iter_numpy(read_with_logits(*folders, "train")))
