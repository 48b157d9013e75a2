# SPDX-License-Identifier: Apache-2.0
"""The teacher's answers on fixed views, computed once and stored beside the examples: logits, and features if wanted.

A teacher's forward pass on every step would cost more than the students do. So it is run once on each of K views of
every training image; Distiller, Pruner and Quantizer then train on exactly those views ("A good teacher is patient
and consistent", 2106.05237). A shard of answers goes with each shard of examples, so that shards can be spread over
workers.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.data.batches import iter_numpy, read_shard
from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.manifests import Task, ViewRecipe

# How much accuracy a teacher may lose on transformed examples before the transformation is held to change their class.
TRIAL_TOLERANCE = 0.01
# Views go through the teacher in pieces of this many examples.
_PIECE = 256
_PARTIAL = ".partial"


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


def trial_accuracy(
    teacher: LoadedTeacher,
    transform: Callable[[np.ndarray], np.ndarray],
    batches: Iterator[tuple[np.ndarray, np.ndarray]],
) -> tuple[float, float, int]:
    """Compares the teacher on examples as they are and transformed.

    Args:
        teacher: The teacher.
        transform: Of a batch of examples, such as mirroring; see `modalities.protocol.Views.on_trial`.
        batches: Of (stored examples [b, …], labels [b]).

    Returns:
        Its accuracy on both, and the number of examples.
    """
    plain = transformed = count = 0
    for batch, labels in batches:
        plain += int(np.sum(teacher.logits(batch).argmax(-1) == labels))
        transformed += int(np.sum(teacher.logits(transform(batch)).argmax(-1) == labels))
        count += len(labels)
    return plain / max(1, count), transformed / max(1, count), count


def write_answers_shard(
    ask: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    examples: str,
    outputs: Mapping[str, str],
    task: Task,
    recipe: ViewRecipe,
    on_views: Callable[[int], None] = lambda _: None,
) -> ShardCount:
    """Writes what a teacher answers about one shard of examples.

    Args:
        ask: Gives [batch, width] float32 for each kind of answer; called once for each view of each image.
        examples: A gzip TFRecord file of examples; without labels, too, where no logits are written.
        outputs: The file to write of each kind, `logits` or `features`; see TeacherLogitsManifest and
            TeacherFeaturesManifest for its records.
        task: Of the examples.
        recipe: Which views; for held-out images, a recipe of one view, the image itself.
        on_views: Told how many more views the teacher has seen.

    Returns:
        The counts; the right answers are those of the logits on view 0.

    Raises:
        TeacherError: A logit is not finite.
    """
    images = correct = 0
    made = modality_of(task).views(task)
    with ExitStack() as files:
        writers = {kind: files.enter_context(_open_partial(path)) for kind, path in outputs.items()}
        for batch in iter_numpy(read_shard(examples, task, _PIECE)):
            views = made.draw(batch["id"], recipe)
            seen = [ask(made.apply(batch["example"], views[:, k]).numpy()) for k in range(recipe.count)]
            answers = {kind: np.stack([one[kind] for one in seen], axis=1, dtype="<f4") for kind in outputs}
            if "logits" in answers:
                correct += int(np.sum(answers["logits"][:, 0].argmax(-1) == batch["label"]))
                answers["logits"] = _in_16_bits(answers["logits"], examples)
            for kind, values in answers.items():
                for key, value, drawn in zip(batch["id"], values, views.astype("<i2"), strict=True):
                    writers[kind].write(_record(kind, key, value, drawn))
            images += len(views)
            on_views(len(views) * recipe.count)
    for path in outputs.values():
        tf.io.gfile.rename(path + _PARTIAL, path, overwrite=True)
    return ShardCount(images, images * recipe.count, correct)


def _open_partial(path: str) -> tf.io.TFRecordWriter:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return tf.io.TFRecordWriter(path + _PARTIAL, tf.io.TFRecordOptions(compression_type="GZIP"))


def _in_16_bits(logits: np.ndarray, examples: str) -> np.ndarray:
    if not np.all(np.isfinite(logits)):
        raise TeacherError(
            f"the teacher's logits must be finite; got NaN or infinity on images of {examples}. "
            "Check teacher.scaling and the model itself."
        )
    # Softmax does not see a common offset; without it, 16 bits are enough.
    with np.errstate(over="ignore"):
        logits = logits - logits.max(axis=-1, keepdims=True)
    return np.maximum(logits, np.finfo(np.float16).min).astype("<f2")


def _record(kind: str, key: bytes, values: np.ndarray, views: np.ndarray) -> bytes:
    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {"id": feature(key), kind: feature(values.tobytes()), "views": feature(views.tobytes())}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)
