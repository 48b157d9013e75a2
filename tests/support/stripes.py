# SPDX-License-Identifier: Apache-2.0
"""Images with visible classes, a family of two students for them, and both as artifacts on disk."""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.spec import Branch, Conv, FamilySpec, Fused, Separable, family_costs
from learn2compress.compression.students.files import write_students
from learn2compress.compression.teacher.logits import write_outputs_shard
from learn2compress.schemas.manifests import (
    DataManifest,
    StudentSetManifest,
    Task,
    TeacherLogitsManifest,
    ViewRecipe,
    manifest_sha256,
    write_manifest,
)

SHAPE = (8, 8, 1)
CLASSES = ["left", "middle", "right"]
TASK = Task(input_shape=SHAPE, classes=CLASSES)
COUNTS = {"train": 96, "validation": 33, "test": 30}
RECIPE = ViewRecipe(count=2, shift_pixels=(1, 1), flip=False, seed=5)
SHARD = "data_tfrecord-{:05d}-of-00002.gz"

# The first student has no stride before its pool; the second is residual in its tail and has a stride in its segment.
SPEC = FamilySpec(
    SHAPE,
    len(CLASSES),
    (Conv("stem", 8),),
    (
        Branch("small", (Separable("trunk1_1", 8),), (Separable("small_tail1", 16, 2),)),
        Branch("large", (Separable("trunk2_1", 16, 2), Separable("trunk2_2", 16)), (Separable("large_tail1", 24),)),
    ),
)

# Fused blocks, with a stride and residual, before separable ones.
FUSED = FamilySpec(
    SHAPE,
    len(CLASSES),
    (Conv("stem", 8), Fused("down1", 16, 2)),
    (
        Branch("small", (Fused("trunk1_1", 16),), (Separable("small_tail1", 24),)),
        Branch("large", (Fused("trunk2_1", 24), Separable("trunk2_2", 24)), (Separable("large_tail1", 32),)),
    ),
)

# A family with the minimum number of layers, for tests of the training alone.
LEAST = FamilySpec(
    SHAPE,
    len(CLASSES),
    (Conv("stem", 8, 2),),
    (Branch("small", (), ()), Branch("large", (Conv("trunk2_1", 16),), ())),
)


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw dark noise in which the left, middle or right pair of columns is bright: [n, 8, 8, 1] uint8, [n] int64."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    images = rng.integers(0, 100, (count, *SHAPE))
    for image, label in zip(images, labels, strict=True):
        image[:, 3 * label : 3 * label + 2] += rng.integers(60, 120)
    return images.astype(np.uint8), labels


class StripesTeacher:
    """A teacher that is correct by construction: its logits are the mean brightness of the three pairs of columns.

    Attributes:
        forward_passes: Number of images on which inference was run so far.
    """

    def __init__(self) -> None:
        self.forward_passes = 0

    def logits(self, images: np.ndarray) -> np.ndarray:
        self.forward_passes += len(images)
        columns = images.astype(np.float32).mean(axis=(1, 3))
        return np.stack([columns[:, 3 * c : 3 * c + 2].mean(axis=1) for c in range(3)], axis=1) / 10

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": self.logits(images)}


def write_examples(folder: Path) -> DataManifest:
    """Write `Examples` with two shards per split."""
    shards = {}
    for seed, (split, count) in enumerate(COUNTS.items()):
        images, labels = draw(count, seed)
        shards[split] = [SHARD.format(i) for i in range(2)]
        for i, name in enumerate(shards[split]):
            path = folder / f"Split-{split}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
                for n in range(i * count // 2, (i + 1) * count // 2):
                    writer.write(_record(images[n], int(labels[n]), f"{1000 * seed + n:016x}"))
    manifest = DataManifest(
        task=Task(input_shape=SHAPE, classes=CLASSES),
        digest="d" * 64,
        counts=COUNTS,
        per_class={split: np.bincount(np.arange(n) % 3, minlength=3).tolist() for split, n in COUNTS.items()},
        shards=shards,
        duplicates={},
        duplicate_examples=[],
        skipped=[],
        skipped_count=0,
    )
    write_manifest(folder, manifest)
    return manifest


def write_logits(folder: Path, examples: Path, data: DataManifest, recipe: ViewRecipe = RECIPE) -> StripesTeacher:
    """Write `TeacherLogits` for them; return the teacher."""
    teacher = StripesTeacher()
    for split, names in data.shards.items():
        views = recipe if split == "train" else recipe.model_copy(update={"count": 1})
        for name in names:
            place = f"Split-{split}/{name}"
            outputs = {"logits": str(folder / place)}
            write_outputs_shard(teacher.outputs, str(examples / place), outputs, TASK, views)
    manifest = TeacherLogitsManifest(
        teacher_sha256="7" * 64,
        data_digest=data.digest,
        examples_sha256=manifest_sha256(examples),
        recipe=recipe,
        classes=len(CLASSES),
        shards=data.shards,
        images=data.counts,
        forward_passes=recipe.count * COUNTS["train"],
        check_passes=COUNTS["validation"] + COUNTS["test"],
        seconds=0.1,
    )
    write_manifest(folder, manifest)
    return teacher


def write_family(folder: Path, family: keras.Model, **changes) -> StudentSetManifest:
    """Write a `StudentSet` of SPEC, and return its manifest; `changes` are arguments of `write_students`."""
    usual = {
        "task": Task(input_shape=SHAPE, classes=CLASSES),
        "stage": "distilled",
        "teacher_sha256": "7" * 64,
        "spec": SPEC,
        "costs": family_costs(SPEC),
        "accuracy": {"small": 1.0, "large": 1.0},
        "curves": [],
        "seed": 1,
    }
    return write_students(folder, family, **(usual | changes))


def spoil_weights(family: keras.Model) -> None:
    """Set a channel of trunk2_2_dw to zero, with weights in trunk2_2_pw beside which all others round to zero."""
    norm, reader = family.get_layer("trunk2_2_dw_bn"), family.get_layer("trunk2_2_pw")
    gamma, beta, mean, variance = norm.get_weights()
    gamma[0], beta[0] = 1e-3, -1
    norm.set_weights([gamma, beta, mean, variance])
    (kernel,) = reader.get_weights()
    kernel[:, :, 0] = 300 * np.abs(kernel).max()
    reader.set_weights([kernel])


def batches(images: np.ndarray, labels: np.ndarray, teacher: np.ndarray | None = None, size: int = 32):
    """Make a tf.data set of full batches, with the teacher's logits if they are given."""
    arrays = (images, labels) if teacher is None else (images, labels, teacher)
    return tf.data.Dataset.from_tensor_slices(arrays).batch(size, drop_remainder=teacher is not None)


def _record(image: np.ndarray, label: int, key: str) -> bytes:
    def text(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "image": text(image.tobytes()),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "id": text(key.encode()),
        "source": text(f"stripes/{key}".encode()),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
