# SPDX-License-Identifier: Apache-2.0
"""Why a run failed: which step, its own words or the cluster's, what helps, and where its log is.

The sources differ by version and by what can be reached: the api-server's tasks (without ML Metadata), the log that the
launcher left in the object store (from 2.5 on), the pods (--kube). The nearest cause is reported: the step's own error,
then what Kubernetes did to the container, then the log's last line.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from learn2compress.kubeflow.client import Endpoint
from learn2compress.kubeflow.runs.logs import StepLog, read_log
from learn2compress.kubeflow.runs.pods import RUN_LABEL, Kube, Pod
from learn2compress.kubeflow.runs.reasons import find_reason
from learn2compress.kubeflow.runs.states import FAILED, NodeState, RunState
from learn2compress.schemas.errors import ClusterError

Found = TypeVar("Found")

DEFAULT_NAMESPACE = "kubeflow"
_OWN_ERROR = re.compile(r"learn2compress: .*")


def failed_node(state: RunState) -> NodeState | None:
    """The step that failed first."""
    return next((node for node in state.nodes if node.state == FAILED), None)


def explain_failure(endpoint: Endpoint, state: RunState, kube: Kube | None = None) -> str:
    """Describe in one line why a run did not succeed.

    Args:
        endpoint: The cluster's.
        state: The run's, which has ended.
        kube: Kubernetes itself, where it can be reached.
    """
    node = failed_node(state)
    if node is None:
        reason = f"; {_one_line(state.message)}" if state.message else ""
        return f"run {state.run} must succeed; it is {state.state}{reason}."
    pods, log = _pods(kube, state.run, node.node), _log(state, node.node)
    reason = _why(endpoint, state, node, pods, log)
    return f"run {state.run} must succeed; {node.node} failed: {reason}. {_where(endpoint, state.run, node, pods, log)}"


def explain_stall(endpoint: Endpoint, run: str, node: NodeState, kube: Kube | None = None) -> str:
    """Describe what a container that does not start waits for, or how to find out."""
    namespace = namespace_of(endpoint)
    for text in (*(f"{pod.reason} {pod.message}" for pod in _pods(kube, run, node.node)[-1:]), node.message or ""):
        reason = find_reason(text)
        if reason:
            remedy = reason.remedy.format(node=node.node, namespace=namespace)
            return f"{node.node} waits: {reason.fault} ({_one_line(text)}). {remedy}."
    return (
        f"{node.node} still waits for its container to start. An image that cannot be pulled looks like that, and so "
        f"does a cluster without room for it: {_kubectl('describe', endpoint, run, node)}"
    )


def namespace_of(endpoint: Endpoint) -> str:
    """The namespace of the runs' pods."""
    return endpoint.namespace or DEFAULT_NAMESPACE


def _why(endpoint: Endpoint, state: RunState, node: NodeState, pods: list[Pod], log: StepLog | None) -> str:
    messages = [node.message or "", *(f"{pod.reason}: {pod.message}" for pod in pods[-1:]), state.message or ""]
    for text in (*messages, *_own_log_lines(endpoint, state.run, node, log)):
        own = _OWN_ERROR.search(text)
        if own:
            return _one_line(own[0])
    for text in (*messages, log.last_line or "" if log else ""):
        reason = find_reason(text)
        if reason:
            remedy = reason.remedy.format(node=node.node, namespace=namespace_of(endpoint))
            return f"{reason.fault} ({_one_line(text)}). {remedy}"
    if any(_one_line(text) for text in messages):
        return next(line for text in messages if (line := _one_line(text)))
    if log is not None and log.last_line:
        return f"its log ends with {_one_line(log.last_line)!r}, as that of a container does which runs out of memory"
    return (
        "it left no log. A container whose image cannot be pulled, that ran out of memory or was ended at its deadline "
        "leaves none; --kube shows which"
    )


def _own_log_lines(endpoint: Endpoint, run: str, node: NodeState, log: StepLog | None) -> Iterator[str]:
    if log is not None and log.own_error:
        yield log.own_error
    for pod in node.pods[-1:]:
        found = _OWN_ERROR.findall(_endpoint_log(endpoint, run, pod))
        if found:
            yield found[-1].strip()


def _endpoint_log(endpoint: Endpoint, run: str, pod: str) -> str:
    """A pod's log through the api-server, or nothing: its response is an error as JSON where it has none."""
    try:
        status, body = endpoint.get(f"/apis/v1alpha1/runs/{run}/nodes/{pod}/log")
    except ClusterError:
        return ""
    text = body.decode(errors="replace") if status == 200 else ""
    try:
        return "" if isinstance(json.loads(text), dict) else text
    except ValueError:
        return text


def _pods(kube: Kube | None, run: str, node: str) -> list[Pod]:
    found = _quietly(lambda: kube.pods_of(run)) if kube else None
    return [pod for pod in found or [] if pod.node == node]


def _log(state: RunState, node: str) -> StepLog | None:
    root = state.root
    return _quietly(lambda: read_log(root, state.run, node)) if root else None


def _quietly(call: Callable[[], Found]) -> Found | None:
    """What a call gives, or None where its source cannot be reached: another source may have it."""
    try:
        return call()
    except ClusterError:
        return None


def _where(endpoint: Endpoint, run: str, node: NodeState, pods: list[Pod], log: StepLog | None) -> str:
    if log is not None:
        return f"Its log: {log.url}"
    return f"Its log: {_kubectl('logs', endpoint, run, node, pods)}"


def _kubectl(verb: str, endpoint: Endpoint, run: str, node: NodeState, pods: list[Pod] | None = None) -> str:
    """The command that shows more: of the step's pod where its name is known, else of the run's pods."""
    known = [pod.name for pod in pods or []] or list(node.pods)
    which = known[-1] if known else f"-l {RUN_LABEL}={run}"
    what = "logs" if verb == "logs" else "describe pod"
    container = " -c main" if verb == "logs" else ""
    return f"kubectl {what} -n {namespace_of(endpoint)} {which}{container}"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).rstrip(".:")
