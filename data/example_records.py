# SPDX-License-Identifier: Apache-2.0
"""Determines the record, the split and the shard of an example, as a function of the example and the plan only.

The split and the position in it follow from digests of the example as its source provides it, so that they do not
change with the form to which it is converted (`data.height`). The number of shards follows from the counts.
None of them depends on the division into pieces or on the number of workers; therefore the bytes do not either.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import tensorflow as tf

from learn2compress.data.raw_examples import UNLABELED, ExampleSource, Part, RawExample
from learn2compress.modalities import modality_of
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.manifests import Split, Task

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PARTS = (*SPLITS, UNLABELED)
SHARD_BYTES = 16 << 20
# Small splits have more shards than their bytes require, so that later nodes can distribute them to workers.
EXAMPLES_A_SHARD, FINE_SHARDS = 512, 8
_RECORD_OVERHEAD_BYTES = 200
_IDS_A_BUCKET = 50_000
# With `data.storage: auto` examples are stored encoded if they and all of them together have more bytes than these.
RAW_EXAMPLE_BYTES, RAW_BYTES = 16 << 10, 256 << 20
Storage = Literal["raw", "encoded"]


@dataclass(frozen=True)
class Plan:
    """Settings of the ingestion that each worker needs.

    Attributes:
        folder: Folder of the Split-* folders.
        spill: Folder of the records before they are sorted into shards.
        task: Task of the examples.
        validation_fraction: Fraction of the training examples for the validation split; 0 if the source has this split.
        test_fraction: Fraction of all examples for the test split, taken first; 0 if the source has this split.
        shards: Number of shards of each split, and of the examples without labels if there are any.
        buckets: Number of groups in which duplicates are searched.
        storage: Whether examples are stored as they are, or packed (`Records.pack`).
    """

    folder: str
    spill: str
    task: Task
    validation_fraction: float
    test_fraction: float
    shards: dict[str, int]
    buckets: int
    storage: Storage = "raw"

    def split_of(self, part: Part, key: bytes) -> str:
        """Returns the split of an example: the one that its source states, otherwise the one of its key (SHA-256)."""
        if part in ("validation", "test", UNLABELED):
            return part
        # The first bytes of a digest are the id, which determines the shard; the split uses others.
        for split, fraction, piece in (
            ("test", self.test_fraction, key[8:16]),
            ("validation", self.validation_fraction, key[16:24]),
        ):
            if int.from_bytes(piece, "big") < fraction * 2**64:
                return split
        return "train"

    def shard_name(self, split: str, shard: int) -> str:
        """Names the file of a shard as TFX does."""
        return f"data_tfrecord-{shard:05d}-of-{self.shards[split]:05d}.gz"


def make_plan(
    config: DataConfig,
    source: ExampleSource,
    task: Task,
    folder: str,
    spill: str,
    unlabeled: int = 0,
) -> Plan:
    """Make the plan of splits and shards.

    Args:
        config: Section `data`.
        source: Opened source.
        task: Task of the examples.
        folder: Folder of the Split-* folders.
        spill: Folder of the records before they are sorted into shards.
        unlabeled: Number of examples without labels.
    """
    counts = source.counts
    test_fraction = 0.0 if "test" in counts else config.test_fraction
    validation_fraction = 0.0 if "validation" in counts else config.validation_fraction
    rest = counts.get("train", 0) + counts.get(None, 0)
    held_out = rest * (1 - test_fraction)
    expected: dict[str, float] = {
        "train": held_out * (1 - validation_fraction),
        "validation": counts.get("validation", held_out * validation_fraction),
        "test": counts.get("test", rest * test_fraction),
    }
    expected |= {UNLABELED: unlabeled} if unlabeled else {}
    size = modality_of(task).records(task).example_bytes
    # As many shards whatever the storage, which therefore changes neither the order of the examples nor a result.
    shards = {part: _shard_count(round(count), size) for part, count in expected.items()}
    total = sum(counts.values()) + unlabeled
    storage = choose_storage(config, total, size)
    buckets = 1 + total // _IDS_A_BUCKET
    return Plan(folder, spill, task, validation_fraction, test_fraction, shards, buckets, storage)


def choose_storage(config: DataConfig, examples: int, example_bytes: int) -> Storage:
    """Choose the form in which examples are stored.

    Small images are mostly headers as files, and few images fit in memory: raw pixels are read faster. Others are
    stored encoded, since raw pixels of photographs have several times the bytes of the source.

    Args:
        config: Section `data`.
        examples: Number of examples, with those without labels.
        example_bytes: Bytes of an example as it is.
    """
    if config.storage != "auto":
        return config.storage
    is_large = example_bytes >= RAW_EXAMPLE_BYTES and examples * example_bytes > RAW_BYTES
    return "encoded" if is_large else "raw"


class ExampleRecord(NamedTuple):
    """An example as it is stored.

    Attributes:
        split: Its split.
        identity: Its id, 16 hexadecimal digits.
        content: The first 16 digits of the digest of its stored form, equal for copies that a model cannot distinguish.
        data: The serialized tf.Example.
        near: The first 16 digits of the digest that near-duplicates share; of images, the id.
    """

    split: str
    identity: str
    content: str
    data: bytes
    near: str


def make_record(raw: RawExample, plan: Plan) -> ExampleRecord:
    """Make the record of an example, as `DataManifest` describes it.

    Args:
        raw: Example of the source.
        plan: Plan of splits and shards.
    """
    records = modality_of(plan.task).records(plan.task)
    stored = records.fit(raw.content)
    digest, key = records.digest(raw.content), records.split_key(raw.content)
    content = digest if stored is raw.content else records.digest(stored)
    split_key = key if raw.group is None else hashlib.sha256(f"group:{raw.group}".encode()).digest()
    identity = digest[:8].hex()
    is_packed = plan.storage == "encoded"
    features = {
        records.feature: _bytes(records.pack(raw.content, stored, raw.file) if is_packed else records.encode(stored)),
        "label": _int(raw.label),
        "id": _bytes(identity.encode()),
        "source": _bytes(raw.source.encode("utf-8", "replace")),
        **{name: _number(value) for name, value in records.statistics(raw.content, stored).items()},
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    # Without `deterministic`, the order of a map's entries and therefore the bytes would vary.
    data = example.SerializeToString(deterministic=True)
    return ExampleRecord(plan.split_of(raw.part, split_key), identity, content[:8].hex(), data, key[:8].hex())


def open_shard(path: str | Path) -> tf.io.TFRecordWriter:
    """Open a shard for writing.

    The format is gzip, which TFX expects, without compression: it would reduce photographs by a seventh only, and
    lengthen each later reading by a quarter. TensorFlow's gzip header holds no time.
    """
    return tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP", compression_level=0))


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def _number(value: int | float) -> tf.train.Feature:
    return _int(value) if isinstance(value, int) else tf.train.Feature(float_list=tf.train.FloatList(value=[value]))


def _shard_count(examples: int, example_bytes: int) -> int:
    by_size = math.ceil(examples * (example_bytes + _RECORD_OVERHEAD_BYTES) / SHARD_BYTES)
    return max(1, by_size, min(FINE_SHARDS, math.ceil(examples / EXAMPLES_A_SHARD)))
