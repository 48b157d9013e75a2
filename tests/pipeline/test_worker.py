# SPDX-License-Identifier: Apache-2.0
"""Tests the assignments between chief and worker; test_distribution.py tests real processes."""

import pytest
from tfx import types
from tfx.types import standard_artifacts

from learn2compress.components.execution.coordination import (
    Assignment,
    dismiss_workers,
    dispatch_training,
    next_assignment,
)
from learn2compress.compression.training.devices.distribution import Distribution
from learn2compress.compression.training.devices.workers import Cluster
from learn2compress.pipeline import worker
from learn2compress.schemas.artifacts import StudentSet, TeacherLogits
from learn2compress.schemas.errors import Learn2CompressError
from learn2compress.schemas.progress import listening


class Channel(Distribution):
    """Delivers the chief's messages to the other worker in order."""

    def __init__(self, index: int, messages: list[bytes]) -> None:
        self.cluster, self.messages = Cluster(("a:1", "b:2"), index), messages

    def broadcast(self, data):
        if self.is_chief:
            self.messages.append(data)
            return data
        return self.messages.pop(0)


def artifact(kind, uri: str) -> types.Artifact:
    made = kind()
    made.uri = str(uri)
    return made


@pytest.fixture
def channel(monkeypatch):
    """Makes the two ends of a channel: the chief's and the worker's."""
    messages = []
    chief, other = Channel(0, messages), Channel(1, messages)
    monkeypatch.setattr(worker, "open_distribution", lambda _: other)
    return chief, other


def test_dispatch_sends_nothing_without_workers_or_from_a_worker(channel):
    _, other = channel

    for distribution in (Distribution(), other):
        dispatch_training(distribution, "Distiller", {}, {})
        dismiss_workers(distribution)

    assert other.messages == []


def test_take_part_executes_the_dispatched_trainings_until_the_run_ends(channel, monkeypatch):
    chief, _ = channel
    seen = []

    class Executor:
        def Do(self, inputs, outputs, parameters):
            seen.append((inputs, outputs, parameters))

    monkeypatch.setattr(worker._NODES["Pruner"], "EXECUTOR", Executor)
    inputs = {
        "examples": [artifact(standard_artifacts.Examples, "/data/1")],
        "teacher_logits": [artifact(TeacherLogits, "/logits/2")],
        "students": [artifact(StudentSet, "/students/3")],
    }
    dispatch_training(chief, "Pruner", inputs, {"prune_sparsity": 0.5, "distill_strategy": "multi_worker", "seed": 1})
    dismiss_workers(chief)
    reported = []

    with listening(reported.append):
        trained = worker.take_part()

    assert trained == ("Pruner",)
    ((found, outputs, parameters),) = seen
    assert {key: [(type(a), a.uri) for a in artifacts] for key, artifacts in found.items()} == {
        "examples": [(standard_artifacts.Examples, "/data/1")],
        "teacher_logits": [(TeacherLogits, "/logits/2")],
        "students": [(StudentSet, "/students/3")],
    }
    assert parameters == {"prune_sparsity": 0.5, "distill_strategy": "multi_worker", "seed": 1}
    (students,) = outputs["pruned_students"]
    assert type(students) is StudentSet
    assert not students.uri.startswith("/students")
    assert [line.detail for line in reported] == [
        "Worker 1 of 2 waits for the chief's trainings",
        "Pruner: takes part in the training",
    ]


@pytest.mark.parametrize("node", ["Distiller", "Pruner", "Quantizer"])
def test_take_part_raises_the_nodes_error_when_its_inputs_are_not_accessible(channel, node, tmp_path):
    chief, _ = channel
    inputs = {key: [artifact(kind, tmp_path / key)] for key, kind in worker._NODES[node].INPUTS.items()}
    dispatch_training(chief, node, inputs, {"distill_strategy": "none", "seed": 1, "teacher_mode": "fixed"})

    with pytest.raises(Learn2CompressError, match=r"manifest\.json must be a readable \w+Manifest; .*No such file"):
        worker.take_part()


def test_next_assignment_returns_the_dispatched_training(channel):
    chief, other = channel
    dispatch_training(chief, "Distiller", {"students": [artifact(StudentSet, "/s/1")]}, {"distill_epochs": 3})

    assert next_assignment(other) == Assignment("Distiller", {"students": ["/s/1"]}, {"distill_epochs": 3})
