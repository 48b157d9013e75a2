# SPDX-License-Identifier: Apache-2.0
"""What killed attempts leave in an output folder, and who removes it."""

from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.queries.verify import verify_place
from learn2compress.pipeline.output.leftovers import remove_leftovers
from learn2compress.storage.location import open_location

KILLED = 9  # an execution that never finished; those of the run are 1 to 7
ASIDE = f".report.json.{'0' * 32}.new"


@pytest.fixture
def out(make_run, tmp_path: Path) -> Path:
    make_run(tmp_path / "pipeline")
    return tmp_path


@pytest.fixture
def store(out: Path, open_store):
    """Holds the executions of a run, all of them finished but the last."""
    store = open_store(out / "metadata.db")
    kind = store.put_execution_type(mlmd.ExecutionType(name="node"))
    states = [mlmd.Execution.COMPLETE] * (KILLED - 1) + [mlmd.Execution.RUNNING]
    store.put_executions([mlmd.Execution(type_id=kind, last_known_state=state) for state in states])
    return store


@pytest.fixture
def left(out: Path) -> list[Path]:
    node = out / "pipeline" / "Quantizer"
    left = [node / "models" / str(KILLED), node / ".system" / "executor_execution" / str(KILLED), out / ASIDE]
    for folder in left[:2]:
        folder.mkdir(parents=True)
        (folder / "half.tflite").write_bytes(b"TFL3half")
    left[2].write_text("{")
    return left


def test_remove_leftovers_removes_what_a_killed_attempt_left(out: Path, store, left: list[Path]) -> None:
    checkpoint = out / "pipeline" / "Quantizer" / "checkpoints" / "abc.npz"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"state")
    kept = {path for path in out.rglob("*") if not any(path == one or one in path.parents for one in left)}

    assert sorted(remove_leftovers(store, out)) == sorted(left)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in left)
    assert checkpoint.exists()
    assert remove_leftovers(store, out) == []


def test_remove_leftovers_keeps_a_folder_that_a_record_describes(out: Path, store) -> None:
    """Where the store was lost, a new one counts its executions from 1 again."""
    [execution] = store.get_executions_by_id([5])
    execution.last_known_state = mlmd.Execution.RUNNING
    store.put_executions([execution])

    assert remove_leftovers(store, out) == []
    assert (out / "pipeline" / "Quantizer" / "models" / "5").exists()


@pytest.mark.usefixtures("store", "left")
def test_verify_place_calls_what_a_killed_attempt_left_unfinished(out: Path) -> None:
    report = verify_place(open_graph(out), open_location(out))

    assert report.status == "incomplete"
    assert [problem.reason for problem in report.problems if "attempts" in problem.reason] == [
        "2 files are of attempts that did not finish; the next run removes them"
    ]


@pytest.mark.usefixtures("store")
def test_verify_place_calls_a_model_of_an_execution_that_never_was_tampered(out: Path) -> None:
    planted = out / "pipeline" / "Quantizer" / "models" / "99" / "large.tflite"
    planted.parent.mkdir()
    planted.write_bytes(b"TFL3")

    assert verify_place(open_graph(out), open_location(out)).status == "tampered"
