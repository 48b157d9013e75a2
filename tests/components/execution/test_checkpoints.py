# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from learn2compress.components.execution.checkpoints import checkpoint_path
from learn2compress.schemas.artifacts import StudentSet, TeacherLogits

PARAMETERS = {"epochs": 3, "rate": 0.1, "seed": 0}


@pytest.fixture
def place(artifact, tmp_path):
    """Computes the checkpoint's path for an execution, its parameters and the manifests of its inputs."""

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


def test_checkpoint_is_the_same_for_another_execution_of_the_same_work(place):
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
def test_checkpoint_differs_when_the_work_differs(place, change):
    assert place(**change) != place()


def test_checkpoint_path_raises_when_an_input_has_no_manifest(artifact, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        checkpoint_path(artifact(StudentSet, tmp_path / "a/b/c"), {"x": [artifact(StudentSet, Path("none"))]}, {})
