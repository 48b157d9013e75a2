# SPDX-License-Identifier: Apache-2.0
"""All that can be checked before a run, in the order in which a run would meet it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from learn2compress.kubeflow.checks.finding import FAULT, OK, Finding
from learn2compress.kubeflow.checks.namespace import Wanted, examine_namespace, examine_system
from learn2compress.kubeflow.checks.probe import run_probe
from learn2compress.kubeflow.checks.registry import UnreachableRegistryError, check_image, look_up_image
from learn2compress.kubeflow.client import Endpoint, check_health, connect, talking
from learn2compress.kubeflow.runs.pods import Kube
from learn2compress.kubeflow.spec.run_parameters import check_root
from learn2compress.schemas.config import Config, KubeflowConfig
from learn2compress.schemas.errors import ClusterError, Learn2CompressError
from learn2compress.storage.addresses import is_remote
from learn2compress.storage.object_store import check_access, exists

_QUICK_SECONDS = 3.0
OLDEST = (2, 0)
"""The oldest version of Kubeflow Pipelines that takes a pipeline of schema 2.1.0."""
WITH_LOGS = (2, 5)
"""The first version that publishes a step's log."""


def examine(
    endpoint: Endpoint,
    config: Config | None,
    root: str | None = None,
    image: str | None = None,
    kube: Kube | None = None,
    service_account: str = "learn2compress",
    probe: bool = False,
) -> Iterator[Finding]:
    """Check endpoint, authorization, object store and image; more with a configuration, and with Kubernetes.

    Args:
        endpoint: The cluster's.
        config: The configuration to be submitted, if there is one already.
        root: Where artifacts go; default: kubeflow.pipeline_root.
        image: Container image of the steps; default: kubeflow.image.
        kube: Kubernetes itself, where it can be reached.
        service_account: Service account of the pods.
        probe: Run a pod that tries image and store from inside the namespace; needs kube.
    """
    settings = config.kubeflow if config else KubeflowConfig()
    root, image = root or settings.pipeline_root, image or settings.image
    checks: list[tuple[str, Callable[[], str]]] = [
        ("endpoint", lambda: _endpoint(endpoint)),
        ("authorization", lambda: _authorization(endpoint)),
        ("object store", lambda: _store(root)),
        ("image", lambda: _image(image)),
    ]
    if config:
        checks.append(("teacher", lambda: _place("teacher", settings.teacher, config.teacher.path)))
        checks.append(("data", lambda: _place("data", settings.data, config.data.path)))
        if settings.runner == "flink":
            checks.append(("job server", lambda: _job_server(settings.flink.job_server_jar)))
    for name, check in checks:
        yield _try(name, check)
    if kube is None:
        return
    wanted = Wanted(root, image, service_account, settings.secret, settings.volume, settings.retries, _engine(settings))
    yield from examine_system(kube, wanted, _version_of(endpoint))
    yield from examine_namespace(kube, wanted, _is_private(image))
    if probe:
        yield _try("probe", lambda: run_probe(kube, wanted, settings.env))


def check_quickly(
    endpoint: Endpoint, config: Config, root: str | None = None, image: str | None = None, kube: Kube | None = None
) -> None:
    """Check what takes no more than seconds, before anything is compiled, uploaded or started.

    Raises:
        ClusterError: The first fault, with its remedy. What cannot be seen from here is not a fault.
    """
    settings = config.kubeflow
    _endpoint(endpoint)
    if _is_store_used(config):
        _store(root or settings.pipeline_root)
    name = image or settings.image
    facts = None
    if name:
        with suppress(UnreachableRegistryError):
            facts = look_up_image(name, _QUICK_SECONDS)
    if kube is not None:
        wanted = Wanted(
            root or settings.pipeline_root,
            name,
            None,
            settings.secret,
            settings.volume,
            settings.retries,
            _engine(settings),
        )
        private = facts is not None and facts.is_private
        version = _version_of(endpoint)
        for finding in (*examine_system(kube, wanted, version), *examine_namespace(kube, wanted, private)):
            if finding.is_fault:
                raise ClusterError(finding.detail)


def _try(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, OK, check())
    except Learn2CompressError as error:
        return Finding(name, FAULT, str(error))


def _version_of(endpoint: Endpoint) -> tuple[int, ...] | None:
    """Request the cluster's version of Kubeflow Pipelines; None: unknown."""
    try:
        return _version(check_health(endpoint))
    except ClusterError:
        return None


def _version(health: dict[str, Any]) -> tuple[int, ...] | None:
    parts = str(health.get("tag_name") or "").lstrip("v").split("-")[0].split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else None


def _endpoint(endpoint: Endpoint) -> str:
    health = check_health(endpoint)
    named = health.get("tag_name") or health.get("build_date") or health.get("commit_sha") or "unknown"
    version = _version(health)
    if version is not None and version < OLDEST:
        raise ClusterError(
            f"{endpoint.url} must be Kubeflow Pipelines 2.0 or later; it is {named}. Upgrade the cluster, or pass the "
            "address of another."
        )
    logs = "" if version is None or version >= WITH_LOGS else "; it keeps no logs of steps, later ones do (2.5)"
    users = "; it has several users" if health.get("multi_user") else ""
    return f"{endpoint.url} answers; version {named}{users}{logs}"


def _authorization(endpoint: Endpoint) -> str:
    client = connect(endpoint)
    with talking(endpoint):
        client.list_experiments(page_size=1, namespace=endpoint.namespace)
    return "experiments may be listed"


def _store(root: str | None) -> str:
    place = check_root(root)
    check_access(place)
    return f"{place} takes a file from here and gives it back; the pods have keys of their own"


def _is_store_used(config: Config) -> bool:
    """Whether submitting reads or writes the object store: not where teacher and data are on a volume."""
    settings = config.kubeflow
    places = ((settings.teacher, config.teacher.path), (settings.data, config.data.path))
    return any(is_remote(given or local) or (given is None and local != "digits") for given, local in places)


def _image(image: str | None) -> str:
    if not image:
        raise ClusterError("an image must be given; got none. Pass --image, or set kubeflow.image.")
    return check_image(image)


def _is_private(image: str | None) -> bool:
    try:
        return image is not None and look_up_image(image).is_private
    except ClusterError:
        return False


def _engine(settings: KubeflowConfig) -> str | None:
    return settings.flink.master if settings.runner == "flink" else None


def _job_server(jar: str | None) -> str:
    if jar is None:
        raise ClusterError(
            "kubeflow.flink.job_server_jar must be given; got none. Upload the jar and name its address."
        )
    if not is_remote(jar):
        return f"{jar} is in the containers, which cannot be seen from here"
    if not exists(jar):
        raise ClusterError(f"kubeflow.flink.job_server_jar must exist; there is nothing at {jar}. Upload it.")
    return f"{jar} is there"


def _place(what: str, given: str | None, local: str) -> str:
    """Teacher or data: in the store, or here, from where submit uploads it."""
    place = given or local
    if is_remote(place):
        if not exists(place):
            raise ClusterError(f"kubeflow.{what} must exist; there is nothing at {place}. Upload it.")
        return f"{place} is there"
    if given:
        return f"{given} is on the volume, which cannot be seen from here"
    if local != "digits" and not Path(local).exists():
        raise ClusterError(f"{what}.path must exist; there is no {local}. Check it, or set kubeflow.{what}.")
    return f"{local} is here; submit brings it to the cluster" if local != "digits" else "the digits are in the image"
