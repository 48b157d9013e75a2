# SPDX-License-Identifier: Apache-2.0
"""A kill after a node has finished and before its record is written."""

import shutil
from pathlib import Path

import pytest

from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.queries.verify import verify_place
from learn2compress.lineage.records.provenance import write_record
from learn2compress.pipeline.output.left_out_records import write_left_out_records
from learn2compress.storage.location import open_location

pytestmark = pytest.mark.e2e


@pytest.fixture
def recorded(tiny_dag, tmp_path: Path, open_store) -> list[Path]:
    """The records of a tiny pipeline below tmp_path, in the order of its executions."""
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "model").write_text("teacher")
    records: list[Path] = []

    def record(execution: int) -> None:
        records.append(Path(write_record(open_store(tmp_path / "metadata.db"), execution, tmp_path / "pipeline")))

    tiny_dag.run(tmp_path / "pipeline", tmp_path / "teacher", tmp_path / "metadata.db", "run-1", record)
    return records


def test_write_left_out_records_writes_the_record_of_the_last_execution(recorded, tmp_path: Path, open_store) -> None:
    store = open_store(tmp_path / "metadata.db")
    assert write_left_out_records(store, tmp_path / "pipeline") == []
    recorded[-1].unlink()
    assert verify_place(open_graph(tmp_path), open_location(tmp_path)).status == "incomplete"

    assert write_left_out_records(store, tmp_path / "pipeline") == [str(recorded[-1])]
    assert verify_place(open_graph(tmp_path), open_location(tmp_path)).status == "whole"


def test_write_left_out_records_leaves_a_deleted_record_missing(recorded, tmp_path: Path, open_store) -> None:
    recorded[-2].unlink()

    assert write_left_out_records(open_store(tmp_path / "metadata.db"), tmp_path / "pipeline") == []
    assert not recorded[-2].exists()


def test_write_left_out_records_leaves_other_outputs_alone(recorded, tmp_path: Path, open_store) -> None:
    shutil.move(tmp_path / "pipeline", tmp_path / "moved")

    assert write_left_out_records(open_store(tmp_path / "metadata.db"), tmp_path / "moved") == []
    assert recorded


def test_write_left_out_records_skips_an_execution_whose_outputs_are_gone(recorded, tmp_path, open_store) -> None:
    recorded[-1].unlink()
    shutil.rmtree(recorded[-1].parents[1] / "models")

    assert write_left_out_records(open_store(tmp_path / "metadata.db"), tmp_path / "pipeline") == []
