# SPDX-License-Identifier: Apache-2.0
"""Streams the examples, and the teacher's logits for them, as batches in the order of the shards.

Shards are sorted by id. Since an id is a digest of the content, this order is random with respect to the content, and
the same in each run.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import tensorflow as tf

from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import (
    AnyViewRecipe,
    DataManifest,
    Split,
    Task,
    TeacherLogitsManifest,
    manifest_sha256,
    read_manifest,
)

FEATURES_FOLDER = "features"
PARALLEL_BATCHES = max(2, min(8, (os.cpu_count() or 1) // 2))
"""Batches that are prepared at the same time; their order does not depend on it."""
_SCALAR_STRING = tf.io.FixedLenFeature([], tf.string)
_SCALAR_INT = tf.io.FixedLenFeature([], tf.int64)
# Without this, AutoGraph analyzes the source of each function anew for each data set, hence in each epoch.
_as_written = tf.autograph.experimental.do_not_convert


def read_examples(
    examples: str | Path, split: Split, batch_size: int = 256, shuffle_buffer: int = 0, seed: int = 0
) -> tf.data.Dataset:
    """Read a split in batches.

    Args:
        examples: Folder of the `Examples` artifact.
        split: Name of the split.
        batch_size: Number of examples in a batch.
        shuffle_buffer: Number of records from which the next one is drawn, differently in each epoch; 0: no shuffling.
        seed: Seed of the shuffling.

    Returns:
        Batches {example: [batch, …] in the stored form (images: [batch, height, width, channels] uint8), label: [batch]
        int64, id: [batch] string}; the last one may be smaller.

    Raises:
        DataError: A shard is missing.
    """
    manifest = read_manifest(examples, DataManifest)
    records = _records(_shards(examples, split, manifest.shards[split]))
    return _batch(records, batch_size, shuffle_buffer, seed, lambda batch: _parse_examples(batch, manifest.task))


def read_with_logits(
    examples: str | Path,
    logits: str | Path,
    split: Split,
    batch_size: int = 256,
    shuffle_buffer: int = 0,
    seed: int = 0,
) -> tf.data.Dataset:
    """Read a split together with the teacher's logits, whose manifest names the examples to which they belong.

    With the split train, examples without labels come along if the teacher's logits on them were stored; their label
    is -1.

    Args:
        examples: Folder of the `Examples` artifact.
        logits: Folder of the `TeacherLogits` artifact.
        split: Name of the split.
        batch_size: Number of examples in a batch.
        shuffle_buffer: Size of the shuffle buffer, see `read_examples`.
        seed: Seed of the shuffling.

    Returns:
        Batches of `read_examples` with logits: [batch, views, classes] float32, and views: [batch, views, width] int16,
        the parameters of each view (images: dy, dx, mirrored; see the modality's views.py). If the views are mixes,
        partner is the stored example behind each one in its shard.

    Raises:
        DataError: A shard is missing, or the logits belong to other examples.
    """
    data, logits_manifest = read_manifest(examples, DataManifest), read_manifest(logits, TeacherLogitsManifest)
    _check_same_examples(examples, logits, logits_manifest)
    parts: dict[str, list[str]] = {split: data.shards[split]}
    if split == "train" and logits_manifest.unlabeled:
        parts["unlabeled"] = logits_manifest.unlabeled.shards
    recipe, task = logits_manifest.recipe, data.task
    values = _Values("logits", tf.float16, recipe.count if split == "train" else 1, logits_manifest.classes)
    records = _zipped_records(examples, logits, parts, modality_of(task).views(task).mixes(recipe))
    return _batch(records, batch_size, shuffle_buffer, seed, _parser(task, recipe, values))


def read_with_features(
    examples: str | Path, logits: str | Path, batch_size: int, shuffle_buffer: int, seed: int
) -> tf.data.Dataset:
    """Read the training examples and those without labels together with the teacher's features.

    Args:
        examples: Folder of the `Examples` artifact.
        logits: Folder of a `TeacherLogits` artifact with features.
        batch_size: Number of examples in a batch.
        shuffle_buffer: Size of the shuffle buffer, see `read_examples`.
        seed: Seed of the shuffling.

    Returns:
        Batches {example, label (-1 without a label), id, features: [batch, views, width] float32, views and partner:
        see `read_with_logits`}.

    Raises:
        DataError: A shard is missing, or the features belong to other examples.
    """
    data, logits_manifest = read_manifest(examples, DataManifest), read_manifest(logits, TeacherLogitsManifest)
    _check_same_examples(examples, logits, logits_manifest)
    if logits_manifest.features is None:
        raise DataError(f"logits in {logits} must have the teacher's features; got none. Run the teacher again.")
    shards = {"train": data.shards["train"], "unlabeled": data.unlabeled.shards if data.unlabeled else []}
    recipe, task = logits_manifest.recipe, data.task
    values = _Values("features", tf.float32, recipe.count, logits_manifest.features.width)
    mixes = modality_of(task).views(task).mixes(recipe)
    records = _zipped_records(examples, Path(logits, FEATURES_FOLDER), shards, mixes)
    return _batch(records, batch_size, shuffle_buffer, seed, _parser(task, recipe, values))


def read_features(logits: str | Path, batch_size: int = 256) -> tf.data.Dataset:
    """Read the teacher's features without examples, in batches [batch, views, width] float32."""
    logits_manifest = read_manifest(logits, TeacherLogitsManifest)
    folder, features = Path(logits, FEATURES_FOLDER), logits_manifest.require_features()
    paths = [path for part, names in features.shards.items() for path in _shards(folder, part, names)]
    count, width = logits_manifest.recipe.count, features.width

    @_as_written
    def parse(batch: tf.Tensor) -> tf.Tensor:
        parsed = tf.io.parse_example(batch, {"features": _SCALAR_STRING})
        return _parse_values(parsed["features"], tf.float32, count, width)

    return _records(paths).batch(batch_size).map(parse)


def read_shard(path: str, task: Task, batch_size: int = 256, partners: bool = False) -> tf.data.Dataset:
    """Read one shard of examples in batches, see `read_examples`.

    Args:
        path: Gzip TFRecord file.
        task: Task of the examples.
        batch_size: Number of examples in a batch.
        partners: Whether to read as partner the example behind each one as well.
    """
    records = _records([path])
    if partners:
        records = tf.data.Dataset.zip((records, _partners([path])))
    return _batch(records, batch_size, 0, 0, lambda *batch: _parse_examples(batch[0], task, *batch[1:]))


def iter_numpy(dataset: tf.data.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """Iterate over batches as NumPy arrays.

    Raises:
        DataError: A shard is damaged.
    """
    with whole_shards():
        yield from dataset.as_numpy_iterator()


@contextmanager
def whole_shards() -> Iterator[None]:
    """Convert TensorFlow's errors for a shard that is truncated or damaged, or that cannot be decoded.

    Raises:
        DataError: A shard is truncated or damaged, or an example in it cannot be decoded.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        raise DataError(
            f"the shards of the examples and of the teacher's outputs must be whole; got: {error.message}. "
            "Delete them and run again."
        ) from error
    except tf.errors.UnknownError as error:
        # An exception of Python in a decoder arrives as text.
        _, found, message = error.message.partition("DataError: ")
        if not found:
            raise
        raise DataError(message.splitlines()[0]) from error


def _check_same_examples(examples: str | Path, logits: str | Path, logits_manifest: TeacherLogitsManifest) -> None:
    found = manifest_sha256(examples)
    if logits_manifest.examples_sha256 != found:
        raise DataError(
            f"logits in {logits} must be of the examples in {examples}, whose manifest has the SHA-256 {found[:12]}…; "
            f"got those of {logits_manifest.examples_sha256[:12] or 'unknown ones'}. Run the teacher again."
        )


def _shards(folder: str | Path, split: str, names: list[str]) -> list[str]:
    paths = [Path(folder, f"Split-{split}", name) for name in names]
    absent = next((path for path in paths if not path.is_file()), None)
    if absent:
        raise DataError(
            f"{absent} must exist, as {folder}/manifest.json names it; got no such file. Run the node again."
        )
    return [str(path) for path in paths]


def _zipped_records(
    examples: str | Path, outputs: str | Path, parts: Mapping[str, list[str]], partners: bool
) -> tf.data.Dataset:
    """Read pairs of records from the shards of some parts, and from those of the same names with outputs.

    With partners, each pair is followed by the example behind it in its shard.
    """
    by_part = [
        list(zip(_shards(examples, part, names), _shards(outputs, part, names), strict=True))
        for part, names in parts.items()
    ]
    # Shards alternate, so that a shuffle buffer that is smaller than the data mixes both kinds.
    pairs = [pair for both in zip_longest(*by_part) for pair in both if pair]
    read, taught = [p[0] for p in pairs], [p[1] for p in pairs]
    more = (_partners(read),) if partners else ()
    return tf.data.Dataset.zip((_records(read), _records(taught), *more))


def _partners(paths: list[str]) -> tf.data.Dataset:
    """Read for each record of some shards the one behind it; behind the last one of a shard comes its first."""

    @_as_written
    def moved(path: tf.Tensor) -> tf.data.Dataset:
        records = _records(path)
        return records.skip(1).concatenate(records.take(1))

    return tf.data.Dataset.from_tensor_slices(paths).flat_map(moved)


def _records(paths: list[str] | tf.Tensor) -> tf.data.Dataset:
    # One file after another: reading several at once would mix their order.
    return tf.data.TFRecordDataset(paths, compression_type="GZIP", buffer_size=1 << 20)


def _batch(
    records: tf.data.Dataset,
    batch_size: int,
    shuffle_buffer: int,
    seed: int,
    parse: Callable[..., dict[str, tf.Tensor]],
) -> tf.data.Dataset:
    if shuffle_buffer:
        # Serialized records are shuffled before parsing, which would copy them.
        records = records.shuffle(shuffle_buffer, seed=seed, reshuffle_each_iteration=True)
    parsed = records.batch(batch_size).map(_as_written(parse), num_parallel_calls=PARALLEL_BATCHES, deterministic=True)
    return parsed.prefetch(2)


def _parse_examples(batch: tf.Tensor, task: Task, partners: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
    stored = modality_of(task).records(task)
    parsed = tf.io.parse_example(batch, {stored.feature: _SCALAR_STRING, "label": _SCALAR_INT, "id": _SCALAR_STRING})
    found = {"example": stored.decode_tensor(parsed[stored.feature]), "label": parsed["label"], "id": parsed["id"]}
    if partners is not None:
        other = tf.io.parse_example(partners, {stored.feature: _SCALAR_STRING})
        found["partner"] = stored.decode_tensor(other[stored.feature])
    return found


@dataclass(frozen=True)
class _Values:
    """The teacher's outputs in a record: their name, stored type, number of views and width."""

    name: str
    dtype: tf.DType
    views: int
    width: int


def _parser(task: Task, recipe: AnyViewRecipe, values: _Values) -> Callable[..., dict[str, tf.Tensor]]:
    """Make the function that parses records of examples, of the teacher's outputs and, for mixes, of partners."""
    parameters = modality_of(task).views(task).width(recipe)

    def parse(batch: tf.Tensor, outputs: tf.Tensor, *partners: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(outputs, {values.name: _SCALAR_STRING, "views": _SCALAR_STRING})
        return _parse_examples(batch, task, *partners) | {
            values.name: _parse_values(parsed[values.name], values.dtype, values.views, values.width),
            "views": tf.reshape(tf.io.decode_raw(parsed["views"], tf.int16), [-1, values.views, parameters]),
        }

    return parse


def _parse_values(values: tf.Tensor, dtype: tf.DType, views: int, width: int) -> tf.Tensor:
    return tf.cast(tf.reshape(tf.io.decode_raw(values, dtype), [-1, views, width]), tf.float32)
