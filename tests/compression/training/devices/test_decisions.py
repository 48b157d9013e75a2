# SPDX-License-Identifier: Apache-2.0
import pytest
from pydantic import BaseModel

from learn2compress.compression.training.devices.decisions import remembered
from learn2compress.compression.training.devices.distribution import Distribution
from learn2compress.compression.training.devices.workers import Cluster
from learn2compress.schemas.errors import TrainingError


class Decision(BaseModel):
    kept: list[int]


def test_remembered_decides_once(tmp_path):
    path = tmp_path / "checkpoints/a.channels.json"

    first = remembered(path, Decision, lambda: Decision(kept=[1, 2]), Distribution())
    second = remembered(path, Decision, lambda: Decision(kept=[3]), Distribution())

    assert first == second == Decision(kept=[1, 2])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_remembered_refuses_a_damaged_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"kept": [1')

    with pytest.raises(TrainingError, match=r"a\.json must be whole; .* Delete it to repeat the decision"):
        remembered(path, Decision, lambda: Decision(kept=[]), Distribution())


def test_remembered_broadcasts_the_decision_of_the_chief(tmp_path):
    class Channel(Distribution):
        sent = b""

        def broadcast(self, data):
            Channel.sent = data if self.is_chief else Channel.sent
            return Channel.sent

    chief, other = Channel(), Channel()
    chief.cluster, other.cluster = Cluster(("a:1", "b:2"), 0), Cluster(("a:1", "b:2"), 1)

    first = remembered(tmp_path / "chief.json", Decision, lambda: Decision(kept=[1, 2]), chief)
    second = remembered(tmp_path / "other.json", Decision, lambda: Decision(kept=[3]), other)

    assert first == second == Decision(kept=[1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ["chief.json"]
