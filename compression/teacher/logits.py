# SPDX-License-Identifier: Apache-2.0
"""Computes a teacher's outputs on fixed views once, and stores them: logits, and features if requested.

Inference of the teacher in every step would cost more than the training of the students. It is therefore run once on
each of K views of every training image, and Distiller, Pruner and Quantizer train on exactly these views. There is one
shard of outputs for each shard of examples, so that shards can be distributed over workers.

Source: Beyer et al., Knowledge distillation: A good teacher is patient and consistent, arXiv:2106.05237.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.data.batches import iter_numpy, read_shard
from learn2compress.data.stored_examples import bounded_batch
from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.files.whole import written_whole
from learn2compress.schemas.manifests import AnyViewRecipe, Task

# Maximum decrease of the teacher's accuracy by a transformation that is still considered to preserve the class.
TRIAL_TOLERANCE = 0.01
# Number of examples in a batch of inference, and of bytes of examples, whose views need several times as many.
_BATCH, _BATCH_BYTES = 256, 8 << 20


@dataclass(frozen=True)
class ShardCount:
    """Counts of the shards that were written: images, forward passes of the teacher, and correct predictions."""

    images: int
    forward_passes: int
    correct: int

    def __add__(self, other: "ShardCount") -> "ShardCount":
        """Add the counts of two sets of shards."""
        return ShardCount(
            self.images + other.images, self.forward_passes + other.forward_passes, self.correct + other.correct
        )


def trial_accuracy(
    teacher: LoadedTeacher,
    transform: Callable[[np.ndarray], np.ndarray],
    batches: Iterator[tuple[np.ndarray, np.ndarray]],
) -> tuple[float, float, int]:
    """Measure the accuracy of the teacher on original and on transformed examples.

    Args:
        teacher: The loaded teacher.
        transform: Transformation of a batch of examples, such as mirroring; see `modalities.protocol.Views.on_trial`.
        batches: Batches of (stored examples [b, …], labels [b] int64).

    Returns:
        The accuracy on original and on transformed examples, and the number of examples.
    """
    plain = transformed = count = 0
    for batch, labels in batches:
        plain += int(np.sum(teacher.logits(batch).argmax(-1) == labels))
        transformed += int(np.sum(teacher.logits(transform(batch)).argmax(-1) == labels))
        count += len(labels)
    return plain / max(1, count), transformed / max(1, count), count


def write_outputs_shard(
    infer: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    examples: str,
    outputs: Mapping[str, str],
    task: Task,
    recipe: AnyViewRecipe,
    on_views: Callable[[int], None] = lambda _: None,
) -> ShardCount:
    """Run inference with a teacher on the views of one shard of examples, and write its outputs.

    Args:
        infer: Function from stored examples [batch, …] to the outputs by kind, each [batch, width]
            float32; it is called once for each view of each image.
        examples: Gzip TFRecord file of examples; labels are required only for logits.
        outputs: Path of the file to write by kind of output, `logits` or `features`; see TeacherLogitsManifest and
            TeacherFeaturesManifest for the records.
        task: Task of the examples.
        recipe: Recipe of the views; for held-out images, a recipe of one view, the image itself.
        on_views: Called with the number of views of each finished batch.

    Returns:
        The counts; correct predictions are those of the logits on view 0.

    Raises:
        TeacherError: A logit is not finite.
    """
    images = correct = 0
    kind_of_views = modality_of(task).views(task)
    with ExitStack() as files:
        writers = {kind: files.enter_context(_open_whole(path)) for kind, path in outputs.items()}
        for batch in iter_numpy(read_shard(examples, task, _batch_size(task), kind_of_views.mixes(recipe))):
            views = kind_of_views.draw(batch["id"], recipe)
            made = (
                kind_of_views.apply(batch["example"], views[:, k], batch.get("partner")) for k in range(recipe.count)
            )
            by_view = [infer(view.numpy()) for view in made]
            computed = {kind: np.stack([one[kind] for one in by_view], axis=1, dtype="<f4") for kind in outputs}
            if "logits" in computed:
                correct += int(np.sum(computed["logits"][:, 0].argmax(-1) == batch["label"]))
                computed["logits"] = _in_16_bits(computed["logits"], examples)
            for kind, values in computed.items():
                for key, value, drawn in zip(batch["id"], values, views.astype("<i2"), strict=True):
                    writers[kind].write(_record(kind, key, value, drawn))
            images += len(views)
            on_views(len(views) * recipe.count)
    return ShardCount(images, images * recipe.count, correct)


def _batch_size(task: Task) -> int:
    """Compute the number of examples of a batch, in whole pieces of inference (`LoadedTeacher.in_pieces`)."""
    return max(8, bounded_batch(task, _BATCH, _BATCH_BYTES) // 8 * 8)


@contextmanager
def _open_whole(path: str) -> Iterator[tf.io.TFRecordWriter]:
    """Opens a file that is there as a whole once the block has ended, however many attempts write it at a time."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with written_whole(Path(path)) as aside, tf.io.TFRecordWriter(str(aside), options) as writer:
        yield writer


def _in_16_bits(logits: np.ndarray, examples: str) -> np.ndarray:
    if not np.all(np.isfinite(logits)):
        raise TeacherError(
            f"the teacher's logits must be finite; got NaN or infinity on examples of {examples}. "
            "Check teacher.scaling and the model itself."
        )
    # Softmax is invariant to a common offset, without which 16 bits are sufficient.
    with np.errstate(over="ignore"):
        logits = logits - logits.max(axis=-1, keepdims=True)
    return np.maximum(logits, np.finfo(np.float16).min).astype("<f2")


def _record(kind: str, key: bytes, values: np.ndarray, views: np.ndarray) -> bytes:
    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {"id": feature(key), kind: feature(values.tobytes()), "views": feature(views.tobytes())}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)
