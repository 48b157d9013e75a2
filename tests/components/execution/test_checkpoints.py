# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from pydantic import BaseModel

from learn2compress.components.execution.checkpoints import checkpoint_path, remembered
from learn2compress.compression.training.distribution import Distribution
from learn2compress.compression.training.workers import Cluster
from learn2compress.schemas.artifacts import StudentSet, TeacherLogits
from learn2compress.schemas.errors import TrainingError

PARAMETERS = {"epochs": 3, "rate": 0.1, "seed": 0}


@pytest.fixture
def place(artifact, tmp_path):
    """The checkpoint's path for an execution, its parameters and the manifests of its inputs."""

    def place(execution=7, parameters=PARAMETERS, **manifests):
        output = artifact(StudentSet, tmp_path / f"root/Distiller/students/{execution}")
        inputs = {}
        for key, content in ({"students": "s", "teacher_logits": "l"} | manifests).items():
            folder = tmp_path / f"inputs/{execution}/{key}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "manifest.json").write_text(content)
            inputs[key] = [artifact(TeacherLogits, folder)]
        return checkpoint_path(output, inputs, parameters)

    return place


def test_checkpoint_lies_beside_the_executions_of_its_node(place, tmp_path):
    path = place()

    assert path.parent == tmp_path / "root/Distiller/checkpoints"
    assert path.suffix == ".npz"


def test_checkpoint_is_found_by_the_next_execution_of_the_same_work(place):
    assert place(7) == place(8)
    assert place(7, parameters=dict(reversed(PARAMETERS.items()))) == place(7)


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": PARAMETERS | {"epochs": 4}},
        {"parameters": PARAMETERS | {"rate": 0.10000001}},
        {"parameters": PARAMETERS | {"code_version": "x"}},
        {"students": "others"},
        {"teacher_logits": "others"},
    ],
)
def test_checkpoint_is_not_that_of_other_work(place, change):
    assert place(**change) != place()


def test_checkpoint_needs_inputs_with_a_manifest(artifact, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        checkpoint_path(artifact(StudentSet, tmp_path / "a/b/c"), {"x": [artifact(StudentSet, Path("none"))]}, {})


class Decision(BaseModel):
    kept: list[int]


def test_remembered_decides_once(tmp_path):
    path = tmp_path / "checkpoints/a.channels.json"

    first = remembered(path, Decision, lambda: Decision(kept=[1, 2]), Distribution())
    second = remembered(path, Decision, lambda: Decision(kept=[3]), Distribution())

    assert first == second == Decision(kept=[1, 2])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_remembered_refuses_what_is_damaged(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"kept": [1')

    with pytest.raises(TrainingError, match=r"a\.json must be whole; .* Delete it to decide anew"):
        remembered(path, Decision, lambda: Decision(kept=[]), Distribution())


def test_remembered_takes_the_chiefs_decision_in_every_worker(tmp_path):
    class Line(Distribution):
        said = b""

        def share(self, data):
            Line.said = data if self.is_chief else Line.said
            return Line.said

    chief, other = Line(), Line()
    chief.cluster, other.cluster = Cluster(("a:1", "b:2"), 0), Cluster(("a:1", "b:2"), 1)

    first = remembered(tmp_path / "chief.json", Decision, lambda: Decision(kept=[1, 2]), chief)
    second = remembered(tmp_path / "other.json", Decision, lambda: Decision(kept=[3]), other)

    assert first == second == Decision(kept=[1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ["chief.json"]
