# SPDX-License-Identifier: Apache-2.0
"""Tests that the recorded facts are those of the API versions, and that the emulation follows them."""

import kfp_server_api
import pytest
from support.servers import kubeflow_facts

from learn2compress.kubeflow.runs.states import parse_run

WITH_METADATA = [version for version in kubeflow_facts.VERSIONS if version != "without-mlmd"]


class Settings:
    fail_node = ("B", "why")
    stuck_node = None
    cached = frozenset({"A"})
    attempts = {"B": 2}


RUN = {"run_id": "r", "pipeline": "digits", "state": "FAILED", "nodes": ["A", "B", "C"], "done": 2}


@pytest.mark.parametrize("version", WITH_METADATA)
def test_task_fields_are_those_of_kfps_own_models(version):
    facts = kubeflow_facts.load_facts(version)["run"]

    assert set(facts["task_fields"]) <= set(kfp_server_api.V2beta1PipelineTaskDetail.attribute_map.values())
    assert set(facts["task_fields"]).isdisjoint({"error", "pod_name", "parent_task_id"})
    states = kfp_server_api.V2beta1RuntimeState.allowable_values
    assert {facts["cached"], facts["cached_inner"], facts["never_started"], *facts["after_cancel"]} <= set(states)


@pytest.mark.parametrize("version", kubeflow_facts.VERSIONS)
def test_emulated_tasks_have_the_recorded_fields_alone(version):
    facts = kubeflow_facts.load_facts(version)["run"]
    tasks = kubeflow_facts.tasks_of(RUN, Settings(), facts)
    for key in facts["tasks_at"]:
        tasks = tasks[key]

    assert {field for task in tasks for field in task} <= set(facts["task_fields"])
    if "task_states" in facts:
        assert {task["state"] for task in tasks} <= set(facts["task_states"])
        assert {task["type"] for task in tasks} <= set(facts["task_types"])
        assert {pod["type"] for task in tasks for pod in task.get("pods", [])} <= set(facts["pod_types"])


@pytest.mark.parametrize("version", kubeflow_facts.VERSIONS)
def test_same_run_is_read_alike_from_each_version(version):
    facts = kubeflow_facts.load_facts(version)["run"]

    nodes = parse_run({"state": "FAILED", **kubeflow_facts.tasks_of(RUN, Settings(), facts)}, "r").nodes

    shown = [(node.node, node.state, node.tries) for node in nodes]
    assert shown[:2] == [("A", "CACHED", 1), ("B", "FAILED", 2)]
    assert shown[2:] == ([] if facts["never_started"] is None else [("C", "NOT_STARTED", 1)])


def test_first_version_without_logs_is_older_than_the_one_with(load):
    for version in kubeflow_facts.VERSIONS:
        emulator = load("emulator").Emulator(store=None, scratch=None, version=version)
        assert emulator.facts["driver"]["executor_logs"] == (version != "2.4")
