# SPDX-License-Identifier: Apache-2.0
"""Follows a run on a cluster node by node, and finds the error of the step that failed."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from learn2compress.kubeflow.client import Endpoint, talking
from learn2compress.schemas.errors import ClusterError, RunFailedError

FINISHED = ("SUCCEEDED", "FAILED", "CANCELED", "CANCELLED", "SKIPPED", "ERROR")
_POLL_SECONDS = 5
_PATIENCE_SECONDS = 120.0  # a pod that waits for longer may wait for ever
_ATTEMPTS = 5
# The backend's own nodes beside those of the pipeline.
_INNER = re.compile(r"root|root-driver|.*-driver|driver|.*executor|.*condition.*|.*\(\d+\)", re.IGNORECASE)
_OWN_ERROR = re.compile(r"learn2compress: .*")


@dataclass(frozen=True)
class NodeState:
    """How far a node is.

    Attributes:
        state: PENDING, RUNNING, SUCCEEDED, SKIPPED (its result was taken from an earlier run), FAILED …
        pod: Name of its pod, if any.
        error: What the cluster says of its failure.
    """

    node: str
    state: str
    pod: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        run: Its id.
        name: As it is shown.
        state: As a node's.
        nodes: Those that the cluster knows already, in the order of their start.
        root: The pipeline root that it was given.
        error: What the cluster says of the run as a whole.
    """

    run: str
    name: str
    state: str
    nodes: tuple[NodeState, ...]
    root: str | None
    error: str | None = None

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED


def get_state(endpoint: Endpoint, client: Any, run: str) -> RunState:
    """Ask how far a run is.

    Raises:
        ClusterError: The endpoint does not know it, or does not answer.
    """
    with talking(endpoint):
        found = client.get_run(run)
    details = (found.run_details.task_details if found.run_details else None) or []
    details = sorted(details, key=lambda task: str(task.start_time or task.create_time or "9"))
    pods = _inner_pods(details)
    # A node runs for the cluster while its container still waits, for its image or for room.
    inner = [task for task in details if (task.display_name or "").endswith("executor")]
    waiting = {task.parent_task_id for task in inner if task.state == "PENDING"}
    nodes = tuple(
        NodeState(
            task.display_name,
            "PENDING" if task.task_id in waiting else task.state or "PENDING",
            pods.get(task.task_id) or task.pod_name or None,
            (task.error.message if task.error else None) or None,
        )
        for task in details
        if task.display_name and not _INNER.fullmatch(task.display_name)
    )
    root = found.runtime_config.pipeline_root if found.runtime_config else None
    error = found.error.message if found.error else None
    return RunState(found.run_id, found.display_name or run, found.state or "PENDING", nodes, root, error)


def follow(
    endpoint: Endpoint,
    client: Any,
    run: str,
    on_node: Callable[[NodeState], None],
    on_stall: Callable[[NodeState], None] = lambda _: None,
    seconds: float = _POLL_SECONDS,
) -> RunState:
    """Wait for a run to end.

    Args:
        on_node: Told of each node whose state has changed.
        on_stall: Told once of a node whose container has not started for minutes.
        seconds: Between two questions.

    Raises:
        RunFailedError: It failed or was cancelled; the message has the step's own error and how to get its log.
        ClusterError: The endpoint has not answered several times in a row. The run goes on.
    """
    seen: dict[str, str] = {}
    since: dict[str, float] = {}
    stalled: set[str] = set()
    missed = 0
    while True:
        try:
            state = get_state(endpoint, client, run)
            missed = 0
        except ClusterError:
            # A gateway restarts, a port-forward breaks off: a long run should outlast that.
            missed += 1
            if missed == _ATTEMPTS:
                raise
            time.sleep(seconds)
            continue
        for node in state.nodes:
            if seen.get(node.node) != node.state:
                seen[node.node] = node.state
                on_node(node)
                since[node.node] = time.monotonic()
            waited = time.monotonic() - since[node.node]
            if node.state == "PENDING" and waited >= _PATIENCE_SECONDS and node.node not in stalled:
                stalled.add(node.node)
                on_stall(node)
        if state.is_finished:
            check_success(endpoint, state)
            return state
        time.sleep(seconds)


def check_success(endpoint: Endpoint, state: RunState) -> None:
    """Refuse a run that has ended without success.

    Raises:
        RunFailedError: With the step's own error and how to get its log.
    """
    if not state.is_finished or state.state in ("SUCCEEDED", "SKIPPED"):
        return
    failed = [node for node in state.nodes if node.state in ("FAILED", "ERROR")]
    if not failed:
        reason = f"; {state.error}" if state.error else ""
        raise RunFailedError(f"run {state.run} must succeed; it is {state.state}{reason}.")
    node = failed[0]
    reason = next((text for text in _reasons(endpoint, state.run, node)), "the cluster gives no reason")
    raise RunFailedError(
        f"run {state.run} must succeed; {node.node} failed: {reason.rstrip('.')}. Its log: "
        f"kubectl logs {_pod(endpoint, node)} -c main"
    )


def explain_stall(endpoint: Endpoint, node: NodeState) -> str:
    """Say what a container that does not start may wait for, and how to find out: the endpoint does not tell."""
    return (
        f"{node.node} still waits for its container to start. An image that cannot be pulled looks like that, and so "
        f"does a cluster without room for it: kubectl describe pod {_pod(endpoint, node)}"
    )


def cancel(endpoint: Endpoint, client: Any, run: str) -> RunState:
    """End a run.

    Raises:
        ClusterError: The endpoint does not know it, refuses, or it has ended already.
    """
    state = get_state(endpoint, client, run)
    if state.is_finished:
        raise ClusterError(f"run {run} must be going on to be cancelled; it is {state.state}.")
    with talking(endpoint):
        client.terminate_run(run)
    return state


def _pod(endpoint: Endpoint, node: NodeState) -> str:
    return f"-n {endpoint.namespace or 'kubeflow'} {node.pod or 'POD'}"


def _reasons(endpoint: Endpoint, run: str, node: NodeState) -> Iterator[str]:
    """What may say why a node failed, the step's own words first."""
    own = _OWN_ERROR.search(node.error or "")
    if own:
        yield own[0]
    if node.pod:
        own = _OWN_ERROR.findall(_read_log(endpoint, run, node.pod))
        if own:
            yield own[-1].strip()
    if node.error:
        yield " ".join(node.error.split())


def _read_log(endpoint: Endpoint, run: str, pod: str) -> str:
    """The pod's log through the api-server, or nothing: not every endpoint passes it on."""
    try:
        status, body = endpoint.get(f"/apis/v1alpha1/runs/{run}/nodes/{pod}/log")
    except ClusterError:
        return ""
    return body.decode(errors="replace") if status == 200 else ""


def _inner_pods(details: list[Any]) -> dict[str, str]:
    """By a node's id, the pod in which its container ran: that of its inner executor."""
    names = {task.task_id: task.display_name or "" for task in details}
    return {
        task.parent_task_id: task.pod_name
        for task in details
        if task.pod_name and task.parent_task_id and names[task.task_id].endswith("executor")
    }
