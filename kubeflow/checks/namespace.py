# SPDX-License-Identifier: Apache-2.0
"""Checks of the cluster's own settings, read from Kubernetes: config maps, rights, secrets, volumes, machines.

Source: config map kfp-launcher (defaultPipelineRoot, providers), config map workflow-controller-configmap
(workflowDefaults), deployment ml-pipeline (PUBLISH_LOGS) of kubeflow/pipelines; SelfSubjectAccessReview and
SubjectAccessReview of Kubernetes' authorization.k8s.io/v1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from learn2compress.kubeflow.checks.finding import FAULT, NOTE, OK, Finding
from learn2compress.kubeflow.runs.pods import Kube
from learn2compress.schemas.config import VolumeConfig
from learn2compress.schemas.errors import ClusterError

SYSTEM_NAMESPACE = "kubeflow"
LAST_WITH_METADATA = (2, 17)
DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"
_SECONDS = 10
_APPLY = "kubectl apply -k kubeflow/manifests/overlay, with your namespace in it"
# What a step's pod does under its service account: (group, resource, name, verb).
RIGHTS = (
    ("argoproj.io", "workflowtaskresults", "", "create"),
    ("argoproj.io", "workflowtaskresults", "", "patch"),
    ("", "pods", "", "get"),
    ("", "configmaps", "kfp-launcher", "get"),
)


@dataclass(frozen=True)
class Wanted:
    """What a run will need of its namespace.

    Attributes:
        root: Where artifacts go.
        image: Container image of the steps.
        service_account: Service account of the pods; None: the cluster's default, which is not checked.
        secret: Secret with the object store's keys.
        volume: Volume with teacher or data.
        retries: By node, how often a failed step is to be tried again.
        engine: Address of a Flink cluster, HOST:PORT; None: the Beam steps run in their own containers.
    """

    root: str | None
    image: str | None
    service_account: str | None
    secret: str | None
    volume: VolumeConfig | None
    retries: dict[str, int]
    engine: str | None = None


def examine_system(kube: Kube, wanted: Wanted, version: tuple[int, ...] | None) -> Iterator[Finding]:
    """Check what the administrator has set: pipeline root, retries, logs.

    Args:
        kube: Kubernetes itself.
        wanted: What the run will need.
        version: Version of Kubeflow Pipelines, if it is known.
    """
    if wanted.root:
        yield _seen("pipeline root", lambda: _root(kube, wanted.root or "", version))
    yield _seen("retries", lambda: _retries(kube, wanted.retries))
    yield _seen("logs", lambda: _logs(kube))


def examine_namespace(kube: Kube, wanted: Wanted, is_private: bool) -> Iterator[Finding]:
    """Check what must be in the namespace: account and rights, secret, volume, pull secret; and the machines.

    Args:
        kube: Kubernetes itself.
        wanted: What the run will need.
        is_private: Whether the image's registry requires a login.
    """
    yield _seen("your rights", lambda: _own_rights(kube))
    if wanted.service_account:
        account = wanted.service_account
        yield _seen("service account", lambda: _account(kube, account, is_private))
        yield _seen("its rights", lambda: _account_rights(kube, account, wanted.secret))
    if wanted.secret:
        yield _seen("secret", lambda: _secret(kube, wanted.secret or ""))
    if wanted.volume:
        yield _seen("volume", lambda: _volume(kube, wanted.volume.claim if wanted.volume else ""))
    if wanted.engine:
        yield _seen("engine", lambda: _engine(kube, wanted.engine or ""))
    yield _seen("machines", lambda: _machines(kube))


def _seen(check: str, look: Callable[[], tuple[str, str]]) -> Finding:
    """What a check finds; what may not be read is only noted."""
    try:
        return Finding(check, *look())
    except ClusterError as error:
        return Finding(check, NOTE, f"cannot be seen: {error}")


def _read(kube: Kube, what: str, call: Callable[..., Any], *arguments: str) -> Any:
    """An object of the cluster's; None: there is none.

    Raises:
        ClusterError: It may not be read.
    """
    from kubernetes.client.exceptions import ApiException

    with kube.querying(what):
        try:
            return call(*arguments, _request_timeout=_SECONDS)
        except ApiException as error:
            if error.status == 404:
                return None
            raise


def _root(kube: Kube, root: str, version: tuple[int, ...] | None) -> tuple[str, str]:
    found = _read(kube, "config map kfp-launcher", kube.core.read_namespaced_config_map, "kfp-launcher", kube.namespace)
    data = (found.data if found else None) or {}
    default = str(data.get("defaultPipelineRoot") or DEFAULT_ROOT).rstrip("/")
    if f"{root}/".startswith(f"{default}/"):
        return OK, f"{root} lies at or below the cluster's {default}"
    providers = _parse(data.get("providers"))
    if isinstance(providers, dict) and _is_overridden(root, providers):
        return OK, f"{root} has a provider of its own in kfp-launcher"
    text = (
        f"the pipeline root must lie at or below the cluster's {default}, or have an override among the providers of "
        f"config map kfp-launcher in namespace {kube.namespace}; got {root}. Pass --root {default}/NAME, or add the "
        "override."
    )
    if version is not None and version[:2] <= LAST_WITH_METADATA:
        return NOTE, f"versions later than 2.17 will refuse this: {text}"
    return FAULT, text


def _is_overridden(root: str, providers: dict[str, Any]) -> bool:
    scheme, _, rest = root.partition("://")
    bucket, _, key = rest.partition("/")
    overrides = (providers.get(scheme) or {}).get("overrides") or []
    return any(one.get("bucketName") == bucket and _is_below(key, one.get("keyPrefix")) for one in overrides)


def _is_below(key: str, prefix: str | None) -> bool:
    folder = (prefix or "").strip("/")
    return not folder or f"{key}/".startswith(f"{folder}/")


def _parse(text: str | None) -> Any:
    """Parse a value of a config map; None: it is no YAML."""
    try:
        return yaml.safe_load(text or "")
    except yaml.YAMLError:
        return None


def _retries(kube: Kube, wanted: dict[str, int]) -> tuple[str, str]:
    found = _read(
        kube, "config map workflow-controller-configmap", kube.core.read_namespaced_config_map,
        "workflow-controller-configmap", SYSTEM_NAMESPACE,
    )  # fmt: skip
    strategy = _find_strategy([_parse(text) for text in ((found.data if found else None) or {}).values()])
    if strategy is None:
        return OK, "kubeflow.retries decides"
    policy, limit = strategy.get("retryPolicy", "OnFailure"), strategy.get("limit", "none")
    rule = f"the cluster's own rule wins over kubeflow.retries: {limit} retries, policy {policy}"
    if policy == "OnError":
        rule += ", for faults of the cluster alone: a step that fails is not tried again"
    remedy = "To change it, an administrator takes templateDefaults.retryStrategy out of workflow-controller-configmap."
    return (NOTE, f"{rule}. {remedy}") if wanted else (OK, rule)


def _find_strategy(values: list[Any]) -> dict[str, Any] | None:
    """The retryStrategy of templateDefaults, however deep the config map has it."""
    for value in values:
        if isinstance(value, str) and "templateDefaults" in value:
            value = _parse(value)
        if isinstance(value, dict):
            found = (value.get("templateDefaults") or {}).get("retryStrategy") if "templateDefaults" in value else None
            found = found or _find_strategy(list(value.values()))
            if found:
                return dict(found)
    return None


def _logs(kube: Kube) -> tuple[str, str]:
    read = kube.client.AppsV1Api().read_namespaced_deployment
    found = _read(kube, "deployment ml-pipeline", read, "ml-pipeline", SYSTEM_NAMESPACE)
    containers = found.spec.template.spec.containers if found else []
    values = [one.value for container in containers for one in container.env or [] if one.name == "PUBLISH_LOGS"]
    if any(str(value).lower() == "false" for value in values):
        return NOTE, "the cluster keeps no logs of steps (PUBLISH_LOGS is false); only --kube can explain a failure"
    return OK, "steps' logs are kept in the object store"


def _own_rights(kube: Kube) -> tuple[str, str]:
    missing = [what for verb, what in (("list", "pods"), ("get", "pods/log")) if not _may(kube, verb, what)]
    if missing:
        return (
            NOTE,
            f"you may not read {' and '.join(missing)}: why a container does not start cannot be found out with --kube",
        )
    return OK, "you may read pods and their logs"


def _may(kube: Kube, verb: str, what: str) -> bool:
    resource, _, subresource = what.partition("/")
    review = {
        "spec": {
            "resourceAttributes": {
                "namespace": kube.namespace, "verb": verb, "resource": resource, "subresource": subresource,
            }
        }
    }  # fmt: skip
    create = kube.client.AuthorizationV1Api().create_self_subject_access_review
    with kube.querying("your rights"):
        return bool(create(review, _request_timeout=_SECONDS).status.allowed)


def _account(kube: Kube, name: str, is_private: bool) -> tuple[str, str]:
    read = kube.core.read_namespaced_service_account
    found = _read(kube, f"service account {name}", read, name, kube.namespace)
    if found is None:
        return FAULT, f"service account {name} must be in namespace {kube.namespace}; it is not. {_APPLY}"
    if is_private and not found.image_pull_secrets:
        return FAULT, (
            f"service account {name} must have a pull secret, since the image is private; it has none. kubectl patch "
            f'serviceaccount {name} -n {kube.namespace} -p \'{{"imagePullSecrets": [{{"name": "SECRET"}}]}}\''
        )
    return OK, f"{name} is there{' and has a pull secret' if found.image_pull_secrets else ''}"


def _account_rights(kube: Kube, name: str, secret: str | None) -> tuple[str, str]:
    create = kube.client.AuthorizationV1Api().create_subject_access_review
    missing = []
    for group, resource, which, verb in (*RIGHTS, *([("", "secrets", secret, "get")] if secret else [])):
        attributes = {
            "namespace": kube.namespace, "group": group, "resource": resource, "name": which, "verb": verb,
        }  # fmt: skip
        user = f"system:serviceaccount:{kube.namespace}:{name}"
        with kube.querying("the service account's rights"):
            review = create({"spec": {"user": user, "resourceAttributes": attributes}}, _request_timeout=_SECONDS)
        if not review.status.allowed:
            missing.append(f"{verb} {resource}{f' {which}' if which else ''}")
    if missing:
        return FAULT, f"service account {name} must be allowed to {', '.join(missing)}; it is not. {_APPLY}"
    return OK, f"{name} may do what a step's pod does"


def _secret(kube: Kube, name: str) -> tuple[str, str]:
    found = _read(kube, f"secret {name}", kube.core.read_namespaced_secret, name, kube.namespace)
    if found is None:
        return FAULT, (
            f"secret {name} must be in namespace {kube.namespace}; it is not. kubectl create secret generic {name} -n "
            f"{kube.namespace} --from-literal AWS_ACCESS_KEY_ID=… --from-literal AWS_SECRET_ACCESS_KEY=…"
        )
    missing = sorted({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} - set(found.data or {}))
    if missing:
        return FAULT, f"secret {name} must have the keys of the object store; it lacks {', '.join(missing)}. Add them."
    return OK, f"{name} has the two keys"


def _volume(kube: Kube, claim: str) -> tuple[str, str]:
    read = kube.core.read_namespaced_persistent_volume_claim
    found = _read(kube, f"volume claim {claim}", read, claim, kube.namespace)
    if found is None:
        return FAULT, (
            f"volume claim {claim} must be in namespace {kube.namespace}; it is not. "
            "kubectl apply -f kubeflow/manifests/volume/volume-claim.yaml"
        )
    modes = found.spec.access_modes or []
    if not {"ReadWriteMany", "ReadOnlyMany"} & set(modes):
        return NOTE, f"{claim} is {', '.join(modes)}: steps that run at the same time must be on one machine"
    return OK, f"{claim} is there, {found.status.phase.lower() if found.status and found.status.phase else 'unbound'}"


def _engine(kube: Kube, address: str) -> tuple[str, str]:
    name, _, port = address.rpartition(":")
    if "." in name:
        return NOTE, f"{address} is not looked for, since it may lie in another namespace"
    found = _read(kube, f"service {name}", kube.core.read_namespaced_service, name, kube.namespace)
    if found is None:
        return FAULT, (
            f"service {name} must be in namespace {kube.namespace}, where kubeflow.flink.master names it; it is not. "
            "Apply the overlay with ../flink."
        )
    if int(port) not in [one.port for one in found.spec.ports or []]:
        return FAULT, f"service {name} must have the port {port}; it has not. Correct kubeflow.flink.master."
    return OK, f"{address} is there"


def _machines(kube: Kube) -> tuple[str, str]:
    with kube.querying("machines"):
        nodes = kube.core.list_node(_request_timeout=_SECONDS).items
    fitting = [one for one in nodes if (one.metadata.labels or {}).get("kubernetes.io/arch") == "amd64"]
    if nodes and not fitting:
        return FAULT, "the cluster must have machines of architecture amd64, as the image; it has none. Add one."
    return OK, f"{len(fitting)} of {len(nodes)} machines are amd64, as the image"
