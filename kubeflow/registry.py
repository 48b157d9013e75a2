# SPDX-License-Identifier: Apache-2.0
"""Asks a container registry whether an image is there, before a pod waits for it."""

import json
import re
from dataclasses import dataclass
from typing import Any

import urllib3

from learn2compress.schemas.errors import ClusterError

_REFERENCE = re.compile(
    r"(?:(?P<host>[\w.-]+(?:\.[\w-]+|:\d+)|localhost)/)?(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


@dataclass(frozen=True)
class Reference:
    """An image's name in full."""

    host: str
    name: str
    version: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Reads a name as docker does.

        Raises:
            ClusterError: It is none.
        """
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise ClusterError(f"an image must be named as in registry.example/name:tag; got {text!r}.")
        name, host = found["name"], found["host"] or "docker.io"
        if host == "docker.io":
            host, name = "registry-1.docker.io", name if "/" in name else f"library/{name}"
        return cls(host, name, found["digest"] or found["tag"] or "latest")

    @property
    def url(self) -> str:
        """Of its manifest. A registry on this machine speaks plain HTTP, as for docker."""
        plain = self.host.split(":")[0] in ("localhost", "127.0.0.1")
        return f"{'http' if plain else 'https'}://{self.host}/v2/{self.name}/manifests/{self.version}"


def check_image(text: str) -> str:
    """Ask for an image.

    Returns:
        What was found out: that it is there, or that only the cluster may see it.

    Raises:
        ClusterError: It is not there, its name is none, or its registry does not answer.
    """
    reference = Reference.parse(text)
    status = _ask(reference)
    if status == 200:
        return f"image {text} is in its registry"
    if status in (401, 403):
        return f"image {text} is private: whether the cluster may pull it cannot be seen from here"
    raise ClusterError(
        f"image {text} must be in its registry; {reference.host} gives HTTP {status}. Push it: make image, then "
        f"podman push {text}"
    )


def _ask(reference: Reference) -> int:
    pool = urllib3.PoolManager(timeout=10, retries=False)
    headers = {"Accept": _MANIFESTS}
    try:
        answer = pool.request("GET", reference.url, headers=headers)
        challenge = answer.headers.get("WWW-Authenticate", "")
        if answer.status == 401 and challenge.startswith("Bearer "):
            token = _token(pool, challenge)
            if token is not None:
                answer = pool.request("GET", reference.url, headers={**headers, "Authorization": f"Bearer {token}"})
        return answer.status
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ClusterError(
            f"registry {reference.host} must be reachable; {' '.join(str(error).split())}. Check the image's name; a "
            "registry within the cluster cannot be asked from outside."
        ) from error


def _token(pool: Any, challenge: str) -> str | None:
    """An anonymous token, as the registry's answer says where to get one."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", None)
    if realm is None:
        return None
    answer = pool.request("GET", realm, fields=fields)
    if answer.status != 200:
        return None
    body = json.loads(answer.data)
    return body.get("token") or body.get("access_token")
