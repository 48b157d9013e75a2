# SPDX-License-Identifier: Apache-2.0
"""Recorded facts of versions of Kubeflow Pipelines (tests/kubeflow/facts), and a run's tasks as one shows them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "kubeflow" / "facts"
VERSIONS = ("2.4", "2.17", "without-mlmd")
Json = dict[str, Any]


def load_facts(version: str) -> dict[str, Any]:
    """Reads the facts of a version: driver, run, log_endpoint …"""
    return json.loads((FOLDER / f"kfp-{version}.json").read_text())


def tasks_of(run: Json, api: Any, facts: Json) -> Json:
    """Makes the part of the api-server's response with the tasks.

    Args:
        run: Nodes of the run, and the number of started ones (`done`).
        api: Settings: fail_node, stuck_node, cached, attempts.
        facts: Recorded facts of the version.
    """
    make = _argo_nodes if facts["workflow_node"] else _tasks
    tasks = [{key: value for key, value in one.items() if key in facts["task_fields"]} for one in make(run, api, facts)]
    response: Json = {}
    place = response
    for key in facts["tasks_at"][:-1]:
        place = place.setdefault(key, {})
    place[facts["tasks_at"][-1]] = tasks
    return response


def _steps(run: Json, api: Any) -> Iterator[tuple[int, str, str]]:
    """Number, name and outcome of each step that was started: RUNNING, SUCCEEDED, FAILED, CACHED, WAITING."""
    for index, node in enumerate(run["nodes"][: run["done"]]):
        is_last = index == run["done"] - 1
        if api.fail_node and api.fail_node[0] == node and (not is_last or run["state"] == "FAILED"):
            yield index, node, "FAILED"
            return
        if node == api.stuck_node:
            yield index, node, "FAILED" if run["state"] == "FAILED" else "WAITING"
            return
        if not is_last or run["state"] == "SUCCEEDED":
            yield index, node, "CACHED" if node in api.cached else "SUCCEEDED"
        else:
            yield index, node, "FAILED" if run["state"] == "FAILED" else "RUNNING"


def _argo_nodes(run: Json, api: Any, facts: Json) -> Iterator[Json]:
    """Nodes of Argo's workflow: an executor belongs to the node that started with it; nothing else links them."""
    workflow = f"{run.get('pipeline', 'learn2compress')}-af672"
    yield {"task_id": "0", "display_name": workflow, "state": run["state"], "start_time": _time(0)}
    yield {"task_id": "1", "display_name": "root", "state": run["state"], "start_time": _time(1)}
    yield {"task_id": "2", "display_name": "root-driver", "state": "SUCCEEDED", "start_time": _time(0)}
    for index, node, outcome in _steps(run, api):
        start, end = _time(10 * index + 10), None if outcome in ("RUNNING", "WAITING") else _time(10 * index + 18)
        state = {"CACHED": facts["cached"], "WAITING": "RUNNING"}.get(outcome, outcome)
        inner = {"CACHED": facts["cached_inner"], "WAITING": "PENDING"}.get(outcome, outcome)
        common = {"run_id": run["run_id"], "start_time": start, "create_time": _time(0)}
        yield {"display_name": f"{node}-driver", "state": "SUCCEEDED", "start_time": start}
        yield {
            **common, "task_id": node, "display_name": node, "state": state, "end_time": end,
            "child_tasks": [{"pod_name": f"{workflow}-{index}"}], "pod_name": "hidden", "parent_task_id": "hidden",
            "error": {"message": api.fail_node[1]} if outcome == "FAILED" and api.fail_node else None,
        }  # fmt: skip
        tries = api.attempts.get(node, 0)
        # With a retry policy `executor` is the sum of its tries.
        outer = "RUNNING" if tries and outcome == "WAITING" else inner
        yield {**common, "task_id": f"{node}-x", "display_name": "executor", "state": outer, "pod_name": "hidden"}
        for number in range(tries):
            state = inner if number == tries - 1 else "FAILED"
            began = _time(10 * index + 10 + 2 * number)
            name = f"executor({number})"
            yield {"task_id": f"{node}-{number}", "display_name": name, "state": state, "start_time": began}
    if run["state"] == "FAILED":
        for node in run["nodes"][run["done"] :]:
            yield {"task_id": node, "display_name": node, "state": facts["never_started"]}


def _tasks(run: Json, api: Any, facts: Json) -> Iterator[Json]:
    """Tasks as the api-server keeps them itself."""
    yield {"name": "root", "display_name": "root", "type": "ROOT", "state": run["state"], "create_time": _time(0)}
    for index, node, outcome in _steps(run, api):
        state = {"CACHED": facts["cached"], "WAITING": "RUNNING"}.get(outcome, outcome)
        tries = max(api.attempts.get(node, 1), 1)
        pods = [{"name": f"{node.lower()}-driver", "type": "DRIVER"}]
        if outcome != "CACHED":
            pods += [{"name": f"{node.lower()}-impl-{number}", "type": "EXECUTOR"} for number in range(tries)]
        task = {
            "name": node, "display_name": node, "task_id": f"t-{index}", "run_id": run["run_id"], "type": "RUNTIME",
            "state": state, "pods": pods, "create_time": _time(10 * index + 10), "parent_task_id": "t-root",
        }  # fmt: skip
        if outcome == "FAILED" and api.fail_node:
            outer, inner = facts["failure_at"]
            task[outer] = {inner: api.fail_node[1]}
        yield task


def _time(second: int) -> str:
    return f"2024-01-01T00:{second // 60:02d}:{second % 60:02d}Z"
