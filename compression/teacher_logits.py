# SPDX-License-Identifier: Apache-2.0
"""The teacher's logits on fixed views, computed once and stored beside the examples.

A teacher's forward pass on every step would cost more than the students do. So it is run once on each of K views of
every training image; Distiller, Pruner and Quantizer then train on exactly those views ("A good teacher is patient
and consistent", 2106.05237). A shard of logits goes with each shard of examples, so that shards can be spread over
workers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from learn2compress.compression.examples import iter_numpy, read_shard
from learn2compress.compression.teacher import LoadedTeacher
from learn2compress.compression.teacher_features import TeacherFeatures
from learn2compress.compression.views import apply_view, draw_views
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.manifests import ViewRecipe

# How much accuracy a teacher may lose on mirrored images before mirroring is held to change what an image shows.
FLIP_TOLERANCE = 0.01
# Views go through the teacher in pieces of this many images.
_PIECE = 256


@dataclass(frozen=True)
class ShardCount:
    """What writing shards came to: images, the teacher's forward passes (in images), and right answers."""

    images: int
    forward_passes: int
    correct: int

    def __add__(self, other: "ShardCount") -> "ShardCount":
        """Of both together."""
        return ShardCount(
            self.images + other.images, self.forward_passes + other.forward_passes, self.correct + other.correct
        )


def view_recipe(input_shape: tuple[int, int, int], views: int, shift: float, flip: bool, seed: int) -> ViewRecipe:
    """The recipe for images of a shape: the shift is a share of each side, rounded to whole pixels."""
    height, width, _ = input_shape
    shifts = (min(height - 1, round(shift * height)), min(width - 1, round(shift * width)))
    return ViewRecipe(count=views, shift_pixels=shifts, flip=flip, seed=seed)


def mirrored_accuracy(
    teacher: LoadedTeacher, batches: Iterator[tuple[np.ndarray, np.ndarray]]
) -> tuple[float, float, int]:
    """Compares the teacher on images as they are and mirrored left to right.

    Args:
        teacher: The teacher.
        batches: Of (images [b, h, w, c] uint8, labels [b]).

    Returns:
        Its accuracy on both, and the number of images.
    """
    plain = mirrored = images = 0
    for batch, labels in batches:
        plain += int(np.sum(teacher.logits(batch).argmax(-1) == labels))
        mirrored += int(np.sum(teacher.logits(batch[:, :, ::-1]).argmax(-1) == labels))
        images += len(labels)
    return plain / max(1, images), mirrored / max(1, images), images


def write_logits_shard(
    teacher: LoadedTeacher,
    examples: str,
    output: str,
    input_shape: tuple[int, int, int],
    recipe: ViewRecipe,
    on_views: Callable[[int], None] = lambda _: None,
) -> ShardCount:
    """Writes the logits for one shard of examples.

    Args:
        teacher: Asked once for each view of each image.
        examples: A gzip TFRecord file of examples.
        output: The file to write; see TeacherLogitsManifest for its records.
        input_shape: (height, width, channels) of the examples.
        recipe: Which views; for held-out images, a recipe of one view, the image itself.
        on_views: Told how many more views the teacher has seen.

    Returns:
        The counts; the right answers are those on view 0.

    Raises:
        TeacherError: A logit is not finite.
    """
    images = passes = correct = 0
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    partial = output + ".partial"
    with tf.io.TFRecordWriter(partial, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for batch in iter_numpy(read_shard(examples, input_shape, _PIECE)):
            views = draw_views(batch["id"], recipe)
            logits = np.stack(
                [teacher.logits(apply_view(batch["image"], views[:, k]).numpy()) for k in range(recipe.count)], axis=1
            )
            if not np.all(np.isfinite(logits)):
                raise TeacherError(
                    f"the teacher's logits must be finite; got NaN or infinity on images of {examples}. "
                    "Check teacher.scaling and the model itself."
                )
            # Softmax does not see a common offset; without it, 16 bits are enough.
            with np.errstate(over="ignore"):
                logits = logits - logits.max(axis=-1, keepdims=True)
            logits = np.maximum(logits, np.finfo(np.float16).min)
            passes += logits.shape[0] * logits.shape[1]
            images += len(logits)
            correct += int(np.sum(logits[:, 0].argmax(-1) == batch["label"]))
            for key, values, drawn in zip(batch["id"], logits.astype("<f2"), views.astype("<i2"), strict=True):
                writer.write(_record(key, values, drawn))
            on_views(len(logits) * recipe.count)
    tf.io.gfile.rename(partial, output, overwrite=True)
    return ShardCount(images, passes, correct)


def write_features_shard(
    features: TeacherFeatures,
    examples: str,
    output: str,
    input_shape: tuple[int, int, int],
    recipe: ViewRecipe,
    on_views: Callable[[int], None] = lambda _: None,
) -> int:
    """Writes the teacher's features for one shard of examples, with labels or without.

    Args:
        features: Asked once for each view of each image.
        examples: A gzip TFRecord file of examples.
        output: The file to write; see TeacherFeaturesManifest for its records.
        input_shape: (height, width, channels) of the examples.
        recipe: Which views.
        on_views: Told how many more views the teacher has seen.

    Returns:
        The images.

    Raises:
        TeacherError: A feature is not finite.
    """
    images = 0
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    partial = output + ".partial"
    with tf.io.TFRecordWriter(partial, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for batch in iter_numpy(read_shard(examples, input_shape, _PIECE)):
            views = draw_views(batch["id"], recipe)
            seen = [features.features(apply_view(batch["image"], views[:, k]).numpy()) for k in range(recipe.count)]
            for key, values, drawn in zip(
                batch["id"], np.stack(seen, axis=1).astype("<f4"), views.astype("<i2"), strict=True
            ):
                writer.write(_record(key, values, drawn, "features"))
            images += len(views)
            on_views(len(views) * recipe.count)
    tf.io.gfile.rename(partial, output, overwrite=True)
    return images


def _record(key: bytes, values: np.ndarray, views: np.ndarray, name: str = "logits") -> bytes:
    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {"id": feature(key), name: feature(values.tobytes()), "views": feature(views.tobytes())}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)
