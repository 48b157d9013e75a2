# SPDX-License-Identifier: Apache-2.0
"""Tests the modality of a task, and that the code for images also stores and reads another modality."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from learn2compress.data.example_records import Plan, make_record, open_shard
from learn2compress.data.raw_examples import RawExample
from learn2compress.data.stored_examples import look_up_examples, read_shard, stack_contents
from learn2compress.modalities import MODALITIES, modality_named, modality_of
from learn2compress.schemas.manifests import Task

TASK = Task(input_shape=(2, 3, 1), classes=["a", "b"])


def test_task_without_a_modality_is_a_task_of_images_and_is_serialized_without_one():
    written = '{"input_shape":[2,3,1],"classes":["a","b"]}'

    assert TASK.model_dump_json() == written
    assert Task.model_validate_json(written) == TASK
    assert modality_of(TASK) is modality_named() is MODALITIES["image"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"modality": "smell"}, "Input should be 'image' or 'text'"),
        ({"input_shape": (2, 3)}, r"must be \[height, width, channels\]"),
        ({"modality": "text"}, r"must be \[tokens\], at least one; got \[2, 3, 1\]"),
    ],
)
def test_task_refuses_an_unknown_modality_and_a_shape_of_another(change, match):
    with pytest.raises(ValidationError, match=match):
        Task(**{"input_shape": (2, 3, 1), "classes": ["a", "b"], **change})


def test_modality_is_found_without_importing_tensorflow_or_pillow():
    code = (
        "import sys\n"
        "from learn2compress.modalities import modality_of\n"
        "from learn2compress.schemas.manifests import Task\n"
        "task = Task(input_shape=(2, 3, 1), classes=['a', 'b'])\n"
        "assert modality_of(task).presentation(task).size == '2x3x1'\n"
        "assert not {'tensorflow', 'PIL', 'ai_edge_litert'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Words:
    """Stores texts in UTF-8."""

    feature, example_bytes = "text", 20

    def fit(self, raw):
        return " ".join(raw.split())

    def digest(self, example):
        return hashlib.sha256(example.encode()).digest()

    def split_key(self, stored):
        return self.digest(stored)

    def encode(self, stored):
        return stored.encode()

    def decode(self, encoded):
        return np.array([value.decode() for value in encoded], object)

    def statistics(self, raw, stored):  # noqa: ARG002
        return {"words": len(stored.split())}


class WordsModality:
    name = "words"

    def records(self, task):  # noqa: ARG002
        return Words()


def test_examples_of_another_modality_are_stored_and_read_by_the_same_code(tmp_path, monkeypatch):
    monkeypatch.setitem(MODALITIES, "words", WordsModality())
    task = Task.model_construct(modality="words", input_shape=(8,), classes=["a", "b"])
    plan = Plan("", "", task, 0.1, 0.1, {"train": 1}, 1)
    raws = [RawExample("rows#0", "train", 0, "naïve  résumé"), RawExample("rows#1", "train", 1, "")]
    made = [make_record(raw, plan) for raw in raws]
    with open_shard(tmp_path / "shard.gz") as writer:
        for record in made:
            writer.write(record.data)

    found = list(read_shard(tmp_path / "shard.gz", task))

    assert [(example.id, example.source, example.label) for example in found] == [
        (made[0].identity, "rows#0", 0),
        (made[1].identity, "rows#1", 1),
    ]
    assert stack_contents(found).tolist() == ["naïve résumé", ""]
    assert look_up_examples([tmp_path / "shard.gz"], task, [found[0].id]) == {found[0].id: "naïve résumé"}
    assert b"words" in made[0].data
