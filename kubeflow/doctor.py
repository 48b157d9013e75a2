# SPDX-License-Identifier: Apache-2.0
"""Tries what a run will need, before anybody waits for a pod that cannot start."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from learn2compress.kubeflow.client import Endpoint, check_health, connect, talking
from learn2compress.kubeflow.registry import check_image
from learn2compress.kubeflow.run_parameters import check_root
from learn2compress.schemas.config import Config, KubeflowConfig
from learn2compress.schemas.errors import ClusterError, Learn2CompressError
from learn2compress.storage.addresses import is_remote
from learn2compress.storage.object_store import check_access, exists


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: What was tried.
        is_good: Whether it went well.
        detail: What was found, or the fault with its remedy.
    """

    check: str
    is_good: bool
    detail: str


def examine(
    endpoint: Endpoint, config: Config | None, root: str | None = None, image: str | None = None
) -> Iterator[Finding]:
    """Check endpoint, authorization, object store and image; with a configuration also teacher and data.

    Args:
        endpoint: The cluster's.
        config: The configuration to be submitted, if there is one already.
        root: Where artifacts go; default: kubeflow.pipeline_root.
        image: Of the steps; default: kubeflow.image.
    """
    settings = config.kubeflow if config else KubeflowConfig()
    checks: list[tuple[str, Callable[[], str]]] = [
        ("endpoint", lambda: _endpoint(endpoint)),
        ("authorization", lambda: _authorization(endpoint)),
        ("object store", lambda: _store(root or settings.pipeline_root)),
        ("image", lambda: _image(image or settings.image)),
    ]
    if config:
        checks.append(("teacher", lambda: _place("teacher", settings.teacher, config.teacher.path)))
        checks.append(("data", lambda: _place("data", settings.data, config.data.path)))
    for name, check in checks:
        try:
            yield Finding(name, True, check())
        except Learn2CompressError as error:
            yield Finding(name, False, str(error))


def _endpoint(endpoint: Endpoint) -> str:
    health = check_health(endpoint)
    version = health.get("tag_name") or health.get("build_date") or health.get("commit_sha") or "not told"
    return f"{endpoint.url} answers; version {version}"


def _authorization(endpoint: Endpoint) -> str:
    client = connect(endpoint)
    with talking(endpoint):
        client.list_experiments(page_size=1, namespace=endpoint.namespace)
    return "experiments may be listed"


def _store(root: str | None) -> str:
    place = check_root(root)
    check_access(place)
    return f"{place} takes a file from here and gives it back; the pods have keys of their own"


def _image(image: str | None) -> str:
    if not image:
        raise ClusterError("an image must be given; got none. Pass --image, or set kubeflow.image.")
    return check_image(image)


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
