# SPDX-License-Identifier: Apache-2.0
"""A pod like a step's, which checks the object store from inside the namespace and is removed again.

It checks at once what only a pod can: that the image is pulled and runs there as its user, that the service account and
the secret are there, that the keys reach the store.
"""

import time
import uuid
from typing import Any

from learn2compress.kubeflow.checks.namespace import Wanted
from learn2compress.kubeflow.runs.pods import Kube, container_fault
from learn2compress.kubeflow.runs.reasons import find_reason
from learn2compress.schemas.errors import ClusterError

SECONDS = 300.0
POLL_SECONDS = 2.0
_CALL_SECONDS = 10
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def run_probe(kube: Kube, wanted: Wanted, env: dict[str, str]) -> str:
    """Run the pod, and remove it.

    Args:
        kube: Kubernetes itself.
        wanted: What the run will need.
        env: Environment variables of the steps.

    Raises:
        ClusterError: It does not start, or the store refuses it.
    """
    if not wanted.image or not wanted.root:
        raise ClusterError("--probe must have an image and a pipeline root; got none. Pass --image and --root.")
    name = f"learn2compress-probe-{uuid.uuid4().hex[:8]}"
    with kube.querying("a pod for the probe"):
        kube.core.create_namespaced_pod(kube.namespace, describe_pod(name, wanted, env), _request_timeout=_CALL_SECONDS)
    try:
        return _wait(kube, name, wanted)
    finally:
        with kube.querying("the probe's pod"):
            kube.core.delete_namespaced_pod(name, kube.namespace, _request_timeout=_CALL_SECONDS)


def describe_pod(name: str, wanted: Wanted, env: dict[str, str]) -> dict[str, Any]:
    """Describe the pod: container, user, keys and volume as a step has them."""
    variables: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in sorted(env.items())]
    if wanted.secret:
        variables += [
            {"name": key, "valueFrom": {"secretKeyRef": {"name": wanted.secret, "key": key}}} for key in _KEYS
        ]
    container: dict[str, Any] = {
        "name": "main",
        "image": wanted.image,
        "command": ["python", "-m", "learn2compress.kubeflow.checks.store_probe", wanted.root],
        "env": variables,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True},
        "containers": [container],
    }
    if wanted.service_account:
        spec["serviceAccountName"] = wanted.service_account
    if wanted.volume:
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": wanted.volume.claim}}]
        container["volumeMounts"] = [{"name": "data", "mountPath": wanted.volume.mount}]
    metadata = {"name": name, "labels": {"app.kubernetes.io/name": "learn2compress-probe"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _wait(kube: Kube, name: str, wanted: Wanted) -> str:
    end = time.monotonic() + SECONDS
    seen = ""
    while time.monotonic() < end:
        with kube.querying("the probe's pod"):
            status = kube.core.read_namespaced_pod(name, kube.namespace, _request_timeout=_CALL_SECONDS).status
        if status.phase == "Succeeded":
            return f"a pod in namespace {kube.namespace} wrote to {wanted.root} and read it back"
        seen = " ".join(" ".join(container_fault(status)).split())
        reason = find_reason(seen)
        if status.phase == "Failed" or (reason and seen):
            fault = reason.fault if reason else "it failed"
            remedy = (
                reason.remedy.format(node="default", namespace=kube.namespace) if reason else "Check secret and root"
            )
            raise ClusterError(f"a pod of the image must reach {wanted.root}; {fault} ({seen}). {remedy}.")
        time.sleep(POLL_SECONDS)
    raise ClusterError(
        f"a pod of the image must start within {SECONDS:.0f} seconds; it has not{f' ({seen})' if seen else ''}. "
        f"kubectl describe pod -n {kube.namespace} {name}"
    )
