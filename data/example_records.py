# SPDX-License-Identifier: Apache-2.0
"""What becomes of an example: its record, its split and its shard, from the example and the plan alone.

The split follows from the content's digest, and so does the place within it; the number of shards follows from the
counts. None of them depends on the cut into pieces or the number of workers, so that neither does a byte of the result.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from learn2compress.data.raw_examples import UNLABELED, ExampleSource, Part, RawExample
from learn2compress.modalities import modality_of
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.manifests import Split, Task

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PARTS = (*SPLITS, UNLABELED)
SHARD_BYTES = 16 << 20
# Small splits are cut finer than their bytes ask for, so that the nodes after this one have something to share out.
EXAMPLES_A_SHARD, FINE_SHARDS = 512, 8
_RECORD_OVERHEAD_BYTES = 200
_IDS_A_BUCKET = 50_000


@dataclass(frozen=True)
class Plan:
    """All that a worker must know.

    Attributes:
        folder: Where the Split-* folders go.
        spill: Where records wait for their shard.
        task: Of the examples.
        validation_fraction: Share of the training examples to be kept apart; 0 where the source has a part for it.
        test_fraction: The same of the whole, taken first.
        shards: Number of shards of each split, and of the examples without labels if there are any.
        buckets: Number of groups in which duplicates are looked for.
    """

    folder: str
    spill: str
    task: Task
    validation_fraction: float
    test_fraction: float
    shards: dict[str, int]
    buckets: int

    def split_of(self, part: Part, digest: bytes) -> str:
        """The split of an example: what its source says, else by its content's digest."""
        if part in ("validation", "test", UNLABELED):
            return part
        # Other bytes than the id's, which decide on the shard.
        for split, fraction, piece in (
            ("test", self.test_fraction, digest[8:16]),
            ("validation", self.validation_fraction, digest[16:24]),
        ):
            if int.from_bytes(piece, "big") < fraction * 2**64:
                return split
        return "train"

    def shard_name(self, split: str, shard: int) -> str:
        return f"data_tfrecord-{shard:05d}-of-{self.shards[split]:05d}.gz"


def make_plan(
    config: DataConfig,
    source: ExampleSource,
    task: Task,
    folder: str,
    spill: str,
    unlabeled: int = 0,
) -> Plan:
    """Settle what the source leaves open; `unlabeled` is the number of examples without labels beside it."""
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
    shards = {part: _shard_count(round(count), size) for part, count in expected.items()}
    buckets = 1 + (sum(counts.values()) + unlabeled) // _IDS_A_BUCKET
    return Plan(folder, spill, task, validation_fraction, test_fraction, shards, buckets)


def make_record(raw: RawExample, plan: Plan) -> tuple[str, str, bytes]:
    """Make the record of an example, as `DataManifest` describes it.

    Returns:
        Its split, its id and the serialized tf.Example.
    """
    records = modality_of(plan.task).records(plan.task)
    stored = records.fit(raw.content)
    digest = records.digest(stored)
    identity = digest[:8].hex()
    features = {
        records.feature: _bytes(records.encode(stored)),
        "label": _int(raw.label),
        "id": _bytes(identity.encode()),
        "source": _bytes(raw.source.encode("utf-8", "replace")),
        **{name: _number(value) for name, value in records.statistics(raw.content, stored).items()},
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    # Without `deterministic` the order of a map's entries, and so the bytes, would vary.
    return plan.split_of(raw.part, digest), identity, example.SerializeToString(deterministic=True)


def open_shard(path: str | Path) -> tf.io.TFRecordWriter:
    """Open a shard to write.

    It is gzip, as TFX takes the shards of Examples to be, yet stored and not deflated: photographs shrink by a seventh,
    and each later reading would take a quarter longer. TensorFlow's gzip header holds no time.
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
