# SPDX-License-Identifier: Apache-2.0
"""Follow a run node by node to its end, or cancel it."""

import time
from collections.abc import Callable

from learn2compress.kubeflow.client import Endpoint
from learn2compress.kubeflow.runs.failures import explain_failure, explain_stall
from learn2compress.kubeflow.runs.pods import Kube
from learn2compress.kubeflow.runs.reasons import find_reason
from learn2compress.kubeflow.runs.states import (
    CANCELED,
    PENDING,
    RUNNING,
    NodeState,
    RunState,
    get_state,
    terminate,
)
from learn2compress.schemas.errors import ClusterError, RunFailedError

POLL_SECONDS = 5.0
PATIENCE_SECONDS = 120.0  # a container that waits for longer may wait for ever
KUBE_SECONDS = 20.0  # with --kube: when the pods are queried for what a container waits for
_ATTEMPTS = 5


def follow(
    endpoint: Endpoint,
    run: str,
    on_node: Callable[[NodeState], None],
    on_stall: Callable[[str], None] = lambda _: None,
    kube: Kube | None = None,
    seconds: float | None = None,
) -> RunState:
    """Wait for a run to end.

    Args:
        endpoint: The cluster's.
        run: The run's id.
        on_node: Called with each node whose state has changed.
        on_stall: Called once for a node whose container does not start, with a sentence that says why.
        kube: Kubernetes itself, where it can be reached.
        seconds: Between two requests; default: POLL_SECONDS.

    Returns:
        The state in which it has ended, whichever that is.

    Raises:
        ClusterError: The endpoint did not respond several times in a row. The run goes on.
    """
    seen: dict[str, tuple[str, int]] = {}
    waiting = _Waiting(endpoint, run, on_stall, kube)
    missed = 0
    while True:
        try:
            state = get_state(endpoint, run)
            missed = 0
        except ClusterError:
            # A gateway restarts, a port-forward breaks off: a long run should outlast that.
            missed += 1
            if missed == _ATTEMPTS:
                raise
        else:
            for node in state.nodes:
                if seen.get(node.node) != (node.state, node.tries):
                    seen[node.node] = (node.state, node.tries)
                    on_node(node)
                waiting.see(node)
            if state.is_finished:
                return state
        time.sleep(POLL_SECONDS if seconds is None else seconds)


def check_success(endpoint: Endpoint, state: RunState, kube: Kube | None = None) -> None:
    """Refuse a run that has ended without success.

    Raises:
        RunFailedError: With the step, why it failed, and where its log is.
    """
    if state.is_finished and state.state not in ("SUCCEEDED", "SKIPPED"):
        raise RunFailedError(explain_failure(endpoint, state, kube))


def cancel(endpoint: Endpoint, run: str) -> RunState:
    """Request the cancellation of a run.

    Raises:
        ClusterError: The endpoint does not know it, refuses, or it has ended already.
    """
    state = get_state(endpoint, run)
    if state.is_finished:
        raise ClusterError(f"run {run} must be running to be cancelled; it is {state.state}.")
    terminate(endpoint, run)
    return state


def was_cancelled(state: RunState) -> bool:
    """Whether a run has ended because it was cancelled."""
    return state.state == CANCELED


class _Waiting:
    """Notice containers that do not start."""

    def __init__(self, endpoint: Endpoint, run: str, on_stall: Callable[[str], None], kube: Kube | None) -> None:
        self._endpoint, self._run, self._on_stall, self._kube = endpoint, run, on_stall, kube
        self._since: dict[str, float] = {}
        self._reported: set[str] = set()

    def see(self, node: NodeState) -> None:
        """Report a node that has waited for too long, once."""
        # Without ML Metadata a node is running while it waits, and its message names the reason.
        known = find_reason(node.message)
        if node.node in self._reported or not (node.state == PENDING or (node.state == RUNNING and known)):
            self._since.pop(node.node, None)
            return
        waited = time.monotonic() - self._since.setdefault(node.node, time.monotonic())
        patience = KUBE_SECONDS if self._kube or known else PATIENCE_SECONDS
        if waited >= patience:
            self._reported.add(node.node)
            self._on_stall(explain_stall(self._endpoint, self._run, node, self._kube))
