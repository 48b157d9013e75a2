# SPDX-License-Identifier: Apache-2.0
"""Reads the shards of Examples and TeacherLogits without TensorFlow, whose import takes longer than many evaluations.

The records are tf.Example messages. The message type is declared here again under another name, which does not conflict
with TensorFlow's in a process that has both; the wire format is the same.

Source: tensorflow/core/example/example.proto and feature.proto.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from learn2compress.data.record_files import read_records
from learn2compress.modalities import modality_of
from learn2compress.modalities.protocol import Records
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import Task


class StoredExample(NamedTuple):
    """A record of `Examples`."""

    id: str  # 16 hexadecimal digits
    source: str
    label: int
    encoded: bytes
    records: Records

    @property
    def content(self) -> np.ndarray:
        """Decoded example in its stored form; an image is [height, width, channels] uint8."""
        return self.records.decode([self.encoded])[0]


def bounded_batch(task: Task, most: int, most_bytes: int) -> int:
    """Computes how many stored examples a batch has, at least one.

    Args:
        task: Task of the examples.
        most: Largest number of examples.
        most_bytes: Largest number of their bytes.
    """
    return max(1, min(most, most_bytes // modality_of(task).records(task).example_bytes))


def stack_contents(examples: Sequence[StoredExample]) -> np.ndarray:
    """Decodes examples of one task to a batch, [examples, …]."""
    return examples[0].records.decode([example.encoded for example in examples])


def read_shard(path: str | Path, task: Task) -> Iterator[StoredExample]:
    """Streams the examples of a shard.

    Args:
        path: Path of the shard.
        task: Task of the examples.

    Raises:
        DataError: The shard is truncated or damaged.
    """
    parse, records = _example_type().FromString, modality_of(task).records(task)
    for record in read_records(path):
        feature = parse(record).features.feature
        yield StoredExample(
            feature["id"].bytes_list.value[0].decode(),
            feature["source"].bytes_list.value[0].decode("utf-8", "replace"),
            feature["label"].int64_list.value[0],
            feature[records.feature].bytes_list.value[0],
            records,
        )


def read_teacher_classes(path: str | Path, classes: int) -> Iterator[tuple[str, int]]:
    """Streams the id and the teacher's predicted class of each example of a shard of `TeacherLogits`.

    Args:
        path: Path of the shard.
        classes: Number of logits of each view; the first view is the example itself.

    Raises:
        DataError: The shard is truncated or damaged.
    """
    for record in read_records(path):
        feature = _example_type().FromString(record).features.feature
        logits = np.frombuffer(feature["logits"].bytes_list.value[0], np.float16)[:classes]
        yield feature["id"].bytes_list.value[0].decode(), int(np.argmax(logits))


def look_up_examples(shards: Iterable[str | Path], task: Task, ids: Iterable[str]) -> dict[str, np.ndarray]:
    """Looks up examples by id; reads no further than the last of them.

    Args:
        shards: Paths of the shards.
        task: Task of the examples.
        ids: Ids of the examples.

    Returns:
        The contents by id, without those that were not found.

    Raises:
        DataError: A shard is truncated or damaged.
    """
    wanted, found = set(ids), dict[str, np.ndarray]()
    for shard in shards:
        if len(found) == len(wanted):
            break
        for example in read_shard(shard, task):
            if example.id in wanted:
                found[example.id] = example.content
    return found


def with_teacher(
    examples: Iterator[StoredExample], teacher: Iterator[tuple[str, int]] | None, shard: str
) -> Iterator[tuple[StoredExample, int | None]]:
    """Pairs examples with the teacher's classes.

    Args:
        examples: Examples of a shard.
        teacher: Ids and classes of the shard of the same name, in the same order; None without a teacher.
        shard: Name of the shard for error messages.

    Raises:
        DataError: The two shards do not hold the same ids in the same order.
    """
    for example in examples:
        if teacher is None:
            yield example, None
            continue
        identity, label = next(teacher, ("none", 0))
        if identity != example.id:
            raise DataError(
                f"the teacher's logits of {shard} must be of its examples in order; "
                f"got {identity} for {example.id}. Run the teacher again."
            )
        yield example, label


@cache
def _example_type() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="learn2compress/stored_example.proto", package="learn2compress", syntax="proto3"
    )
    field = descriptor_pb2.FieldDescriptorProto

    def message(name: str) -> descriptor_pb2.DescriptorProto:
        return file.message_type.add(name=name)

    def add(owner: descriptor_pb2.DescriptorProto, name: str, number: int, kind: int, **more: Any) -> None:
        owner.field.add(name=name, number=number, type=kind, **{"label": field.LABEL_OPTIONAL, **more})

    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        add(message(name), "value", 1, kind, label=field.LABEL_REPEATED)
    feature = message("Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")), start=1
    ):
        add(feature, name, number, field.TYPE_MESSAGE, type_name=f".learn2compress.{kind}", oneof_index=0)
    features = message("Features")
    entry = features.nested_type.add(name="FeatureEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    add(entry, "key", 1, field.TYPE_STRING)
    add(entry, "value", 2, field.TYPE_MESSAGE, type_name=".learn2compress.Feature")
    add(
        features,
        "feature",
        1,
        field.TYPE_MESSAGE,
        type_name=".learn2compress.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )
    add(message("Example"), "features", 1, field.TYPE_MESSAGE, type_name=".learn2compress.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName("learn2compress.Example")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # protobuf 3.20
