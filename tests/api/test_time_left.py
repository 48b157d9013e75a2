# SPDX-License-Identifier: Apache-2.0
"""The time left of a run is told only where it is known."""

from typing import NamedTuple

from learn2compress.api.time_left import TimeLeft, earlier_durations, planned_epochs
from learn2compress.schemas.config import build_config
from learn2compress.schemas.progress import Progress


class NodeEvent(NamedTuple):
    """An event as of pipeline.local_run, whose import takes long."""

    node: str
    index: int
    total: int
    seconds: float | None = None
    cached: bool = False


def epoch(done: int, total: int, seconds: float) -> Progress:
    return Progress("distilled: epoch", done, total, "accuracy 0.9", seconds)


def test_time_left_is_not_told_before_it_is_known():
    left = TimeLeft(epochs={"Distiller": 10, "Quantizer": 4})

    left.note_node(NodeEvent("TeacherImporter", 1, 3))
    left.note_progress(Progress("teacher inference: view", 5, 10, "", 100.0))

    assert left.text() == ""


def test_time_left_counts_the_epochs_of_all_trainings_to_come():
    left = TimeLeft(epochs={"Distiller": 10, "Pruner": 2, "Quantizer": 4})

    left.note_node(NodeEvent("Distiller", 2, 4))
    left.note_progress(epoch(4, 10, 80.0))  # 20 s each: 6 epochs left here, 2 and 4 later
    assert left.text() == "about 4 min of training left"

    left.note_node(NodeEvent("Distiller", 2, 4, seconds=200.0))
    left.note_node(NodeEvent("Pruner", 3, 4))
    assert left.text() == "about 80 s of training left"


def test_time_left_adds_up_the_nodes_of_an_earlier_run_and_the_epochs_of_this_one():
    earlier = {"TeacherImporter": 5.0, "Distiller": 300.0, "Quantizer": 900.0, "TFLiteEvaluator": 60.0}
    left = TimeLeft(earlier, epochs={"Distiller": 10, "Quantizer": 4})

    left.note_node(NodeEvent("TeacherImporter", 1, 4, seconds=6.0))
    left.note_node(NodeEvent("Distiller", 2, 4))
    assert left.text() == ""  # the earlier run may have had another number of epochs
    left.note_progress(epoch(1, 10, 20.0))

    assert left.text() == "about 5 min left"  # 9 + 4 epochs of 20 s, and the evaluation


def test_time_left_is_not_told_while_all_nodes_come_from_the_cache():
    left = TimeLeft({"TFLiteEvaluator": 90.0, "Distiller": 300.0})

    left.note_node(NodeEvent("Distiller", 1, 2, seconds=0.1, cached=True))

    assert left.text() == ""


def test_time_left_says_nothing_of_a_node_that_no_earlier_run_had():
    left = TimeLeft({"Quantizer": 120.0})

    left.note_node(NodeEvent("Quantizer", 1, 2, seconds=100.0))
    left.note_node(NodeEvent("Pusher", 2, 2))

    assert left.text() == ""


def test_earlier_durations_reads_the_records_of_the_latest_run(make_run, tmp_path):
    make_run(tmp_path / "pipeline")

    durations = earlier_durations(tmp_path)

    assert {"ImageExampleGen", "Distiller", "Quantizer"} <= set(durations)
    assert all(seconds >= 0 for seconds in durations.values())
    assert earlier_durations(tmp_path / "new") == {}


def test_planned_epochs_counts_what_is_switched_on():
    tree = {"teacher": {"path": "t"}, "data": {"path": "digits"}, "distill": {"epochs": 7}, "prune": {"sparsity": 0}}

    assert planned_epochs(build_config(tree))["Distiller"] == 7
    assert planned_epochs(build_config(tree))["Pruner"] == 0
