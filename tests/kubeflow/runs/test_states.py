# SPDX-License-Identifier: Apache-2.0
"""Tests how the api-server's responses are read, where versions differ and where information is missing."""

import pytest

from learn2compress.kubeflow.runs.states import parse_run
from learn2compress.schemas.errors import ClusterError


def node(name, state, start, end=None, **more):
    return {"display_name": name, "state": state, "start_time": at(start), "end_time": at(end), **more}


def at(second):
    return None if second is None else f"2024-01-01T00:00:{second:02d}Z"


def read(details, state="RUNNING", **more):
    found = {"run_id": "r", "state": state, "run_details": {"task_details": details}, **more}
    return {one.node: (one.state, one.tries) for one in parse_run(found, "r").nodes}


def test_workflow_driver_and_executor_are_no_nodes():
    details = [
        node("learn2compress-af672", "FAILED", 0), node("root", "FAILED", 0), node("root-driver", "SUCCEEDED", 0),
        node("Distiller-driver", "SUCCEEDED", 1), node("Distiller", "FAILED", 2), node("executor", "FAILED", 2),
        node("executor(0)", "FAILED", 2),
    ]  # fmt: skip

    assert list(read(details, "FAILED")) == ["Distiller"]


def test_executor_belongs_to_the_node_that_started_with_it():
    details = [
        node("executor", "PENDING", 20), node("executor", "SKIPPED", 10), node("executor", "SUCCEEDED", 1),
        node("A", "SUCCEEDED", 1, 9), node("B", "SUCCEEDED", 10, 10), node("C", "RUNNING", 20),
    ]  # fmt: skip

    assert read(details) == {"A": ("SUCCEEDED", 1), "B": ("CACHED", 1), "C": ("PENDING", 1)}


def test_nothing_is_claimed_of_nodes_that_started_together_and_differ():
    details = [
        node("A", "RUNNING", 5), node("B", "RUNNING", 5), node("executor", "PENDING", 5), node("executor", "RUNNING", 5)
    ]  # fmt: skip

    assert read(details) == {"A": ("RUNNING", 1), "B": ("RUNNING", 1)}


def test_nodes_that_started_together_and_all_wait_are_pending():
    details = [
        node("A", "RUNNING", 5), node("B", "RUNNING", 5), node("executor", "PENDING", 5), node("executor", "PENDING", 6)
    ]  # fmt: skip

    assert {state for state, _ in read(details).values()} == {"PENDING"}


def test_try_that_waits_makes_its_node_wait():
    details = [
        node("A", "RUNNING", 5), node("executor", "RUNNING", 5), node("executor(0)", "FAILED", 5),
        node("executor(1)", "PENDING", 40),
    ]  # fmt: skip

    assert read(details) == {"A": ("PENDING", 2)}


@pytest.mark.parametrize("unset", [None, "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
def test_node_without_a_start_is_last_and_not_started_after_the_end(unset):
    details = [{"display_name": "B", "state": "PENDING", "start_time": unset}, node("A", "FAILED", 3)]

    assert read(details, "FAILED") == {"A": ("FAILED", 1), "B": ("NOT_STARTED", 1)}


def test_skipped_node_was_omitted():
    assert read([node("A", "SKIPPED", 3)], "FAILED") == {"A": ("OMITTED", 1)}


def test_failure_after_a_cancellation_is_one():
    history = [{"state": "RUNNING"}, {"state": "CANCELING"}, {"state": "FAILED"}]
    found = {"state": "FAILED", "state_history": history, "run_details": {"task_details": [node("A", "FAILED", 1)]}}

    state = parse_run(found, "r")

    assert (state.state, state.nodes[0].state) == ("CANCELED", "CANCELED")


def test_tasks_without_ml_metadata_say_it_themselves():
    tasks = [
        {"name": "root", "type": "ROOT", "state": "RUNNING"},
        {
            "name": "A", "type": "RUNTIME", "state": "CACHED", "create_time": at(1),
            "pods": [{"name": "a-driver", "type": "DRIVER"}],
        },
        {
            "name": "B", "type": "RUNTIME", "state": "FAILED", "create_time": at(2),
            "pods": [{"name": "b-0", "type": "EXECUTOR"}, {"name": "b-1", "type": "EXECUTOR"}],
            "status_metadata": {"message": "exit status 2"},
        },
    ]  # fmt: skip

    nodes = parse_run({"state": "FAILED", "tasks": tasks}, "r").nodes

    assert [(one.node, one.state, one.tries, one.pods, one.message) for one in nodes] == [
        ("A", "CACHED", 1, (), None),
        ("B", "FAILED", 2, ("b-0", "b-1"), "exit status 2"),
    ]


@pytest.mark.parametrize("found", [{"tasks": [1]}, {"run_details": {"task_details": {"a": 1}}}, {"state": 7}])
def test_response_of_another_form_is_named(found):
    with pytest.raises(ClusterError, match=r"the state of run r must be an answer of the API v2beta1; .*Check --host"):
        parse_run(found, "r")
