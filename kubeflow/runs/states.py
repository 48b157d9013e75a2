# SPDX-License-Identifier: Apache-2.0
"""The states of a run and its nodes, read from the responses of either generation of the api-server.

With ML Metadata (KFP 2.0 to 2.17) the tasks are in `run_details.task_details`, made from Argo's nodes: the workflow's
own, `root`, drivers, a node of the pipeline (a DAG of one) and within it `executor`, with tries `executor(0)`,
`executor(1)` … where there is a retry policy. No field names the node of an executor. A node and its
executor start in the same pass of Argo, however, so that the two are in the same order when sorted by their start;
where several start in the same second, only a state that all of them share is used.

Without ML Metadata the tasks are in `tasks`, which `view=FULL` requests, and have all of this.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from learn2compress.kubeflow.client import Endpoint
from learn2compress.schemas.errors import ClusterError

Json = dict[str, Any]

PENDING, RUNNING, SUCCEEDED, CACHED, OMITTED = "PENDING", "RUNNING", "SUCCEEDED", "CACHED", "OMITTED"
FAILED, CANCELING, CANCELED, NOT_STARTED = "FAILED", "CANCELING", "CANCELED", "NOT_STARTED"
_FINISHED = (SUCCEEDED, FAILED, CANCELED, "SKIPPED")
_PATH = "/apis/v2beta1/runs/"
# tfx's nodes begin with a capital letter; the backend's own are root, root-driver, NODE-driver, executor, executor(0)
# and the workflow's name.
_NODE = re.compile(r"[A-Z]\w*(-(?!driver$)\w+)?")
_TRY = re.compile(r"executor\((\d+)\)")
_UNSET_TIMES = ("0001-", "1970-")
_FAILED_NAMES = (FAILED, "ERROR")
_CANCELED_NAMES = (CANCELED, "CANCELLED")
_NO_STATES = ("", "RUNTIME_STATE_UNSPECIFIED")


@dataclass(frozen=True)
class NodeState:
    """How far a node is.

    Attributes:
        node: Its name.
        state: PENDING (its container has not started), RUNNING, SUCCEEDED, CACHED (its result was taken from an earlier
            run), OMITTED (the cluster left it out), FAILED, CANCELED, NOT_STARTED (the run ended before it).
        tries: How often its container was started.
        pods: Names of its containers' pods, the last try last, if the cluster gives them.
        message: The cluster's message: why it failed, or what it waits for.
    """

    node: str
    state: str
    tries: int = 1
    pods: tuple[str, ...] = ()
    message: str | None = None


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        run: Its id.
        name: As it is shown.
        state: PENDING, RUNNING, CANCELING, SUCCEEDED, FAILED or CANCELED.
        nodes: The nodes so far, in the order of their start.
        root: The pipeline root that it was given.
        message: The cluster's message on the run as a whole.
    """

    run: str
    name: str
    state: str
    nodes: tuple[NodeState, ...]
    root: str | None = None
    message: str | None = None

    @property
    def is_finished(self) -> bool:
        return self.state in _FINISHED


def get_state(endpoint: Endpoint, run: str) -> RunState:
    """Request how far a run is.

    Raises:
        ClusterError: The endpoint has no such run, refuses, or does not respond.
    """
    return parse_run(endpoint.call("GET", f"{_PATH}{run}?view=FULL"), run)


def terminate(endpoint: Endpoint, run: str) -> None:
    """Request the end of a run.

    Raises:
        ClusterError: The endpoint has no such run, refuses, or does not respond.
    """
    endpoint.call("POST", f"{_PATH}{run}:terminate")


def parse_run(found: Json, run: str) -> RunState:
    """Read the api-server's response.

    Args:
        found: The response, of either generation.
        run: The id that was requested.

    Raises:
        ClusterError: The response is of another form.
    """
    try:
        state = _run_state(found)
        if found.get("tasks"):
            nodes = list(_nodes_of_tasks(found["tasks"]))
        else:
            nodes = list(_nodes_of_details((found.get("run_details") or {}).get("task_details") or []))
        return RunState(
            found.get("run_id", run),
            found.get("display_name") or run,
            state,
            tuple(_settle(node, state) for node in nodes),
            (found.get("runtime_config") or {}).get("pipeline_root"),
            _message(found.get("error")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ClusterError(
            f"the state of run {run} must be an answer of the API v2beta1; {type(error).__name__}: {error}. "
            "Check --host and the version of Kubeflow Pipelines."
        ) from error


def _run_state(found: Json) -> str:
    state = _plain(found.get("state"))
    former = [_plain(one.get("state")) for one in found.get("state_history") or []]
    # A run that was cancelled ends as a failed one.
    return CANCELED if state == FAILED and CANCELING in former else state


def _plain(state: str | None) -> str:
    name = (state or "").upper()
    if name in _NO_STATES:
        return PENDING
    if name in _FAILED_NAMES:
        return FAILED
    return CANCELED if name in _CANCELED_NAMES else name


def _settle(node: NodeState, run: str) -> NodeState:
    """Settle a node's state by how the run has ended."""
    if run not in _FINISHED:
        return node
    if node.state == PENDING:
        return replace(node, state=NOT_STARTED)
    if run == CANCELED and node.state in (RUNNING, FAILED):
        return replace(node, state=CANCELED)
    return node


def _nodes_of_tasks(tasks: Sequence[Json]) -> Iterator[NodeState]:
    """The nodes where there is no ML Metadata."""
    for task in sorted(tasks, key=lambda one: str(one.get("create_time") or "9")):
        name = task.get("display_name") or task.get("name") or ""
        if not _NODE.fullmatch(name):
            continue
        state = _plain(task.get("state"))
        pods = [one for one in task.get("pods") or [] if one.get("type", "EXECUTOR") == "EXECUTOR"]
        message = (task.get("status_metadata") or {}).get("message") or task.get("lifecycle_message")
        yield NodeState(
            name,
            OMITTED if state == "SKIPPED" else state,
            max(len(pods), 1),
            tuple(one["name"] for one in pods if one.get("name")),
            message or None,
        )


def _nodes_of_details(details: Sequence[Json]) -> Iterator[NodeState]:
    """The nodes where there is ML Metadata."""
    nodes = sorted((one for one in details if _NODE.fullmatch(one.get("display_name") or "")), key=_started_or_late)
    inner = _executors(nodes, details)
    tries = _tries(nodes, details)
    for index, node in enumerate(nodes):
        state, executor = _plain(node.get("state")), inner.get(index)
        last = tries.get(index, [])
        waiting = [executor, *(_plain(one.get("state")) for one in last[-1:])]
        if state == RUNNING and PENDING in waiting:
            state = PENDING
        elif state == SUCCEEDED and executor == "SKIPPED":
            state = CACHED
        elif state == "SKIPPED":
            state = OMITTED
        pod = node.get("pod_name")
        yield NodeState(
            node["display_name"], state, max(len(last), 1), (pod,) if pod else (), _message(node.get("error"))
        )


def _executors(nodes: Sequence[Json], details: Sequence[Json]) -> dict[int, str]:
    """By a node's place, the state of its executor, where that can be determined."""
    started = [index for index, node in enumerate(nodes) if _started(node) and node.get("state") != "SKIPPED"]
    executors = sorted((one for one in details if one.get("display_name") == "executor"), key=_started_or_late)
    found: dict[int, str] = {}
    first = 0
    while first < len(started):
        last = first
        while last < len(started) and _started(nodes[started[last]]) == _started(nodes[started[first]]):
            last += 1
        states = {_plain(one.get("state")) for one in executors[first:last]}
        if len(states) == 1 and len(executors[first:last]) == last - first:
            found |= dict.fromkeys(started[first:last], states.pop())
        first = last
    return found


def _tries(nodes: Sequence[Json], details: Sequence[Json]) -> dict[int, list[Json]]:
    """By a node's place, its tries, the last one last: those that started while no other node was running."""
    tries: dict[int, list[Json]] = {}
    for one in sorted((one for one in details if _TRY.fullmatch(one.get("display_name") or "")), key=_started_or_late):
        at = _started(one)
        owners = [index for index, node in enumerate(nodes) if at and _was_running(node, at)]
        if len(owners) == 1:
            tries.setdefault(owners[0], []).append(one)
    return tries


def _was_running(node: Json, at: str) -> bool:
    started, ended = _started(node), _time(node.get("end_time"))
    return started is not None and started <= at and (ended is None or at <= ended)


def _started(task: Json) -> str | None:
    return _time(task.get("start_time"))


def _started_or_late(task: Json) -> str:
    return _started(task) or "9"


def _time(text: str | None) -> str | None:
    return None if not text or text.startswith(_UNSET_TIMES) else text


def _message(error: Json | None) -> str | None:
    return ((error or {}).get("message") or None) if error else None
