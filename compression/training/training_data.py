# SPDX-License-Identifier: Apache-2.0
"""Makes the training batches of the students; an epoch depends only on the seed and its number.

In epoch e an example is used in its view (e + h) mod K, where h is a hash of its id. Over K epochs a student is
therefore trained on all views of every example, and each batch contains a mixture of views.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from learn2compress.compression.training.parts import parts_of
from learn2compress.data.batches import PARALLEL_BATCHES, iter_numpy, read_examples, read_with_logits
from learn2compress.data.stored_examples import bounded_batch
from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import (
    AnyViewRecipe,
    DataManifest,
    Split,
    Task,
    TeacherLogitsManifest,
    read_manifest,
)

_SHUFFLE_BYTES = 64 * 2**20
_READ_BYTES = 2 * 2**20  # of stored examples in a batch without gradients; activations take many times as much


def shuffle_buffer(count: int, record_bytes: int) -> int:
    """Compute the size of the shuffle buffer: all records, or as many as fit in the memory reserved for it.

    Args:
        count: Number of records.
        record_bytes: Bytes of a record.
    """
    return min(count, max(1024, _SHUFFLE_BYTES // record_bytes))


def record_bytes(task: Task, recipe: AnyViewRecipe, output_bytes: int) -> int:
    """Compute the bytes of an example with the teacher's outputs on its views, and with its partner for mixes.

    Args:
        task: Task of the examples.
        recipe: Recipe of the views.
        output_bytes: Bytes of the teacher's outputs on one view.
    """
    modality = modality_of(task)
    views = modality.views(task)
    examples = 2 if views.mixes(recipe) else 1
    return examples * modality.records(task).example_bytes + recipe.count * (output_bytes + 2 * views.width(recipe))


def epoch_seed(seed: int, epoch: int) -> int:
    """Compute the seed of the order of an epoch.

    TensorFlow combines every seed with its global seed, which a user's module or a library may have changed. The global
    seed is therefore set to a fixed value here.
    """
    tf.random.set_seed(0)
    return seed * 100_003 + epoch


@dataclass(frozen=True)
class TrainingData:
    """Examples with the teacher's logits, ready for `JointTrainer`.

    Attributes:
        task: The classification task.
        examples: Folder of the `Examples` artifact.
        logits: Folder of the `TeacherLogits` artifact.
        batch_size: Examples per step; fewer if the split is smaller.
        steps: Full batches per epoch; since each epoch is shuffled, the remaining examples occur in other epochs.
        classes: Number of classes.
        recipe: Recipe of the K views.
        seed: Seed of the order of the images.
        shuffle_buffer: Number of records from which the next one is drawn.
        input_shape: Shape of the students' input, if it differs from that of the examples.
        live: Whether there are no stored logits of training images, since a jointly trained teacher computes them in
            each step.
        encode: Conversion of stored examples to those that the students take: the ids of texts, [examples, length]
            int32. None if they take stored examples.
    """

    task: Task
    examples: Path
    logits: Path
    batch_size: int
    steps: int
    classes: int
    recipe: AnyViewRecipe
    seed: int
    shuffle_buffer: int
    live: bool = False
    encode: Callable[[np.ndarray], np.ndarray] | None = None
    input_shape: tuple[int, ...] | None = None

    @classmethod
    def open(
        cls,
        examples: str | Path,
        logits: str | Path,
        batch_size: int,
        seed: int,
        input_shape: tuple[int, ...] | None = None,
    ) -> "TrainingData":
        """Read the manifests, and check by digest that images and logits belong together.

        Args:
            examples: Folder of the `Examples` artifact.
            logits: Folder of the `TeacherLogits` artifact.
            batch_size: Images per step, if there are that many.
            seed: Seed of the order of the images.
            input_shape: Shape of the students' input, to which views are reduced; default: that of the examples.

        Raises:
            DataError: Images and logits do not belong together, a shard is missing, or there are no training images.
        """
        data, taught = read_manifest(examples, DataManifest), read_manifest(logits, TeacherLogitsManifest)
        count = data.counts["train"]
        if count and taught.unlabeled:
            count += taught.unlabeled.count
        if not count:
            raise DataError(f"the examples in {examples} must have training images; got none. Check data.path.")
        batch = min(batch_size, count)
        live = not taught.shards["train"]
        read_with_logits(examples, logits, "validation" if live else "train")  # only for its checks
        return cls(
            data.task,
            Path(examples),
            Path(logits),
            batch,
            count // batch,
            taught.classes,
            taught.recipe,
            seed,
            shuffle_buffer(count, record_bytes(data.task, taught.recipe, 2 * taught.classes)),
            live=live,
            input_shape=input_shape,
        )

    def epoch(self, epoch: int) -> tf.data.Dataset:
        """Make batches of (examples [b, …], labels [b] int64, teacher logits [b, classes] float32).

        Images are [b, h, w, c] uint8, texts [b] string, or [b, length] int32 with `encode`. Examples without labels,
        and mixes of two, have the label -1. With a jointly trained teacher, which computes its logits in the step, the
        logits are [b, 0].

        Args:
            epoch: Number of the epoch, from 0; equal numbers give equal batches.
        """
        order = (self.batch_size, self.shuffle_buffer, epoch_seed(self.seed, epoch))
        if self.live:
            batches = read_examples(self.examples, "train", *order).map(self._with_views)
        else:
            batches = read_with_logits(self.examples, self.logits, "train", *order)
        count, views = self.recipe.count, modality_of(self.task).views(self.task)

        @tf.autograph.experimental.do_not_convert  # see data/batches.py
        def pick_view(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            view = (tf.strings.to_hash_bucket_fast(batch["id"], count) + epoch) % count
            parameters = tf.gather(batch["views"], view, axis=1, batch_dims=1)
            examples = views.apply(batch["example"], parameters, batch.get("partner"))
            labels = views.labels(batch["label"], parameters)
            return self._taken(examples), labels, tf.gather(batch["logits"], view, axis=1, batch_dims=1)

        picked = batches.map(pick_view, num_parallel_calls=PARALLEL_BATCHES, deterministic=True)
        return picked.take(self.steps).prefetch(2)

    def teaching(self) -> tf.data.Dataset:
        """Make batches of the records of all training examples in the order of the files, with all views' logits.

        A record has `example` as stored, `label` [b] int64 and `logits` [b, views, classes] float32; with a jointly
        trained teacher the logits are [b, views, 0].
        """
        if self.live:
            return read_examples(self.examples, "train", self._read_at_once).map(self._with_views)
        return read_with_logits(self.examples, self.logits, "train", self._read_at_once)

    @tf.autograph.experimental.do_not_convert
    def _with_views(self, batch: dict) -> dict:
        """Draw the views that TeacherImporter would store with the logits of a fixed teacher."""
        kind = modality_of(self.task).views(self.task)
        views = tf.numpy_function(lambda ids: kind.draw(ids, self.recipe), [batch["id"]], tf.int16)
        views = tf.ensure_shape(views, [None, self.recipe.count, kind.width(self.recipe)])
        return batch | {"views": views, "logits": tf.zeros([tf.shape(views)[0], self.recipe.count, 0])}

    def validation(self) -> tf.data.Dataset:
        """Make validation batches of (examples [b, …], labels [b] int64)."""

        @tf.autograph.experimental.do_not_convert
        def take(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            return self._taken(batch["example"]), batch["label"]

        return read_examples(self.examples, "validation", self._read_at_once).map(take)

    def _taken(self, examples: tf.Tensor) -> tf.Tensor:
        """Convert stored examples to those that the students take."""
        if self.encode is not None:
            ids = tf.numpy_function(self.encode, [examples], tf.int32)
            return tf.ensure_shape(ids, [None, *self.task.input_shape])
        if self.input_shape is None:
            return examples
        return modality_of(self.task).student_input.fit(examples, self.input_shape)

    def first_validation(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Read the first validation examples in the order of their ids.

        Args:
            count: Maximum number of examples.

        Returns:
            At most `count` examples, [n, …], and their labels, [n] int64.
        """
        found = list(self._first("validation", count))
        if not found:
            return self._as_taken(modality_of(self.task).records(self.task).decode([])), np.zeros(0, np.int64)
        examples = np.concatenate([self._as_taken(batch["example"]) for batch in found])
        return examples, np.concatenate([batch["label"] for batch in found])

    def _as_taken(self, examples: np.ndarray) -> np.ndarray:
        if self.encode is not None:
            return self.encode(examples)
        return examples if self.input_shape is None else np.asarray(self._taken(examples))

    def representative(self, count: int, stored: bool = False) -> tuple[list[np.ndarray], list[str]]:
        """Read the first training examples in the order of their ids, which is random with respect to content.

        Args:
            count: Maximum number of examples.
            stored: Whether to return the examples as stored, for the teacher, instead of as the students take them.

        Returns:
            At most `count` examples and their ids.
        """
        images: list[np.ndarray] = []
        ids: list[str] = []
        for batch in self._first("train", count):
            images.extend(batch["example"] if stored else self._as_taken(batch["example"]))
            ids.extend(key.decode() for key in batch["id"])
        return images, ids

    def _first(self, split: Split, count: int) -> Iterator[dict[str, np.ndarray]]:
        """Read batches of the first examples of a split, `count` in all."""
        size = min(self._read_at_once, max(1, count))
        for batch in islice(iter_numpy(read_examples(self.examples, split, size)), -(-count // size)):
            yield {key: values[:count] for key, values in batch.items()}
            count -= len(batch["id"])

    @property
    def parts(self) -> int:
        """Number of parts in which a batch of such images is trained, if the model allows it."""
        return parts_of(self.batch_size, self.input_shape or self.task.input_shape)

    @property
    def _read_at_once(self) -> int:
        """Number of stored examples in a batch without gradients: 256, of large images fewer."""
        return bounded_batch(self.task, 256, _READ_BYTES)
