# SPDX-License-Identifier: Apache-2.0
"""A run's pods as Kubernetes describes them, where its API server can be reached (--kube).

Argo marks each pod with the run (label `pipeline/runid`) and with the path of its node (annotation
`workflows.argoproj.io/node-name`, as in WORKFLOW.root.Distiller.executor(1)).
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from learn2compress.schemas.errors import ClusterError

RUN_LABEL = "pipeline/runid"
NODE_ANNOTATION = "workflows.argoproj.io/node-name"
_NODE_PATH = re.compile(r"\.(?P<node>[^.]+)\.executor(\((?P<try>\d+)\))?")
_KUBECONFIG = "~/.kube/config"
_SECONDS = 10
_MAIN = "main"
_LOG_LINES = 200


@dataclass(frozen=True)
class Pod:
    """A step's pod.

    Attributes:
        name: Its name.
        node: The step's name.
        attempt: The number of the try, from 0.
        phase: Pending, Running, Succeeded or Failed.
        reason: Why it waits or was ended, in Kubernetes' word; empty where nothing is wrong.
        message: Kubernetes' explanation, or the step's termination message.
    """

    name: str
    node: str
    attempt: int
    phase: str
    reason: str
    message: str


class Kube:
    """The cluster's own API server, for one namespace."""

    def __init__(self, namespace: str, context: str | None = None) -> None:
        """Connect as kubectl does; within a pod as its service account.

        Args:
            namespace: Where the runs' pods are.
            context: Of the kubeconfig; default: the current one.

        Raises:
            ClusterError: The package is not installed, or there is no configuration.
        """
        try:
            from kubernetes import client, config
            from kubernetes.config.config_exception import ConfigException
        except ImportError as error:
            raise ClusterError(f"--kube needs the package kubernetes; {error}. pip install kubernetes.") from error
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG"):
                config.load_incluster_config()
            else:
                # Named here: the package reads the variable when it is imported, perhaps too early.
                config.load_kube_config(os.environ.get("KUBECONFIG") or _KUBECONFIG, context)
        except (ConfigException, OSError) as error:
            raise ClusterError(
                f"--kube needs a kubeconfig as kubectl has; {_line(error)}. Set KUBECONFIG, or leave --kube out."
            ) from error
        self.namespace = namespace
        self.client = client
        self.core = client.CoreV1Api()

    @contextmanager
    def querying(self, what: str) -> Iterator[None]:
        """Turn what the client raises into one line.

        Args:
            what: What is requested, in the message.
        """
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            raise ClusterError(
                f"{what} must be readable in namespace {self.namespace}; Kubernetes says {error.status} {error.reason}."
                " Check -n NAME and your rights: kubectl auth can-i --list"
            ) from error
        except (HTTPError, OSError) as error:
            raise ClusterError(f"{what} must be readable; {_line(error)}. Check the kubeconfig.") from error

    def pods_of(self, run: str) -> list[Pod]:
        """The steps' pods of a run, tries in their order.

        Raises:
            ClusterError: Kubernetes refuses or does not respond.
        """
        with self.querying("pods"):
            found = self.core.list_namespaced_pod(
                self.namespace, label_selector=f"{RUN_LABEL}={run}", _request_timeout=_SECONDS
            ).items
        pods = [pod for one in found if (pod := read_pod(one)) is not None]
        return sorted(pods, key=lambda pod: (pod.node, pod.attempt))

    def log_of(self, pod: str) -> str:
        """The end of a step's log.

        Raises:
            ClusterError: Kubernetes refuses, or the pod is gone.
        """
        with self.querying(f"the log of pod {pod}"):
            return str(
                self.core.read_namespaced_pod_log(
                    pod, self.namespace, container=_MAIN, tail_lines=_LOG_LINES, _request_timeout=_SECONDS
                )
            )


def read_pod(pod: Any) -> Pod | None:
    """Read a pod as the kubernetes client gives it; None: it is no step's."""
    annotations = pod.metadata.annotations or {}
    found = _NODE_PATH.search(annotations.get(NODE_ANNOTATION, ""))
    if found is None:
        return None
    reason, message = container_fault(pod.status)
    attempt = int(found["try"] or 0)
    return Pod(pod.metadata.name, found["node"], attempt, pod.status.phase or "", reason, " ".join(message.split()))


def container_fault(status: Any) -> tuple[str, str]:
    """Find what is wrong, the nearest cause first: what a container waits for, how one was ended, the pod itself."""
    containers = [*(status.init_container_statuses or []), *(status.container_statuses or [])]
    for one in containers:
        waiting = one.state.waiting if one.state else None
        if waiting and waiting.reason not in (None, "ContainerCreating", "PodInitializing"):
            return waiting.reason, waiting.message or ""
    # Argo's own containers end with an error whenever the step's does.
    for one in sorted(containers, key=lambda one: one.name != _MAIN):
        for state in (one.state, one.last_state):
            ended = state.terminated if state else None
            if ended and ended.exit_code != 0:
                return ended.reason or "Error", ended.message or f"exit code {ended.exit_code}"
    if status.reason:
        return status.reason, status.message or ""
    for condition in status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.reason or "", condition.message or ""
    return "", ""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
