# SPDX-License-Identifier: Apache-2.0
"""Looks an image up in its container registry, before a pod waits for it: is it there, and what is it made for?"""

import json
import re
from dataclasses import dataclass
from typing import Any

import urllib3

from learn2compress.schemas.errors import ClusterError

PLATFORM = "linux/amd64"
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


class UnreachableRegistryError(ClusterError):
    """A registry cannot be reached from here; the cluster may reach it."""


@dataclass(frozen=True)
class Reference:
    """An image's name in full."""

    host: str
    name: str
    version: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a name as docker does.

        Raises:
            ClusterError: It is not the name of an image.
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
        """Address of the image in its registry. A registry on this machine is reached by plain HTTP, as docker does."""
        plain = self.host.split(":")[0] in ("localhost", "127.0.0.1")
        return f"{'http' if plain else 'https'}://{self.host}/v2/{self.name}"


@dataclass(frozen=True)
class ImageFacts:
    """A registry's description of an image.

    Attributes:
        status: HTTP status of the response: 200, or 401 and 403 where only others may see the image.
        platforms: Operating system and architecture of each variant, such as linux/amd64, if the description has them.
        user: User of the image's containers, if the description has one.
    """

    status: int
    platforms: tuple[str, ...] = ()
    user: str | None = None

    @property
    def is_private(self) -> bool:
        """Whether its registry requires a login."""
        return self.status in (401, 403)


def look_up_image(text: str, seconds: float = 10.0) -> ImageFacts:
    """Request an image's description.

    Args:
        text: The image's name.
        seconds: How long to wait for the registry.

    Raises:
        ClusterError: It is not there, or its name is not valid.
        UnreachableRegistryError: Its registry does not respond.
    """
    reference = Reference.parse(text)
    requests = _Requests(reference, seconds)
    status, manifest = requests.get(f"manifests/{reference.version}")
    if status not in (200, 401, 403):
        raise ClusterError(
            f"image {text} must be in its registry; {reference.host} gives HTTP {status}. Push it: make image, then "
            f"podman push {text}"
        )
    if status != 200:
        return ImageFacts(status)
    if manifest.get("manifests"):
        platforms = [one.get("platform", {}) for one in manifest["manifests"]]
        named = {f"{one['os']}/{one['architecture']}" for one in platforms if one.get("architecture") != "unknown"}
        return ImageFacts(200, tuple(sorted(named)))
    digest = manifest.get("config", {}).get("digest")
    status, config = requests.get(f"blobs/{digest}") if digest else (404, {})
    if status != 200 or "architecture" not in config:
        return ImageFacts(200)
    user = config.get("config", {}).get("User", "")
    return ImageFacts(200, (f"{config.get('os', 'linux')}/{config['architecture']}",), user)


def check_image(text: str, seconds: float = 10.0) -> str:
    """Look an image up, and check the properties that the registry describes.

    Returns:
        The result: that it is there, or that only the cluster may see it.

    Raises:
        ClusterError: It is not there, its registry does not respond, or it cannot run on a cluster.
    """
    facts = look_up_image(text, seconds)
    if facts.is_private:
        return f"image {text} is private: whether the cluster may pull it cannot be seen from here"
    if facts.platforms and PLATFORM not in facts.platforms:
        raise ClusterError(
            f"image {text} must be for {PLATFORM}, for which alone TFX has packages; it is for "
            f"{', '.join(facts.platforms)}. Build it with make image ARGS=--platform={PLATFORM}"
        )
    if facts.user is not None and not _is_number_of_a_user(facts.user):
        raise ClusterError(
            f"image {text} must have a user that is a number other than 0, or clusters that forbid root refuse it; got "
            f"{facts.user or 'none'}. Build it with make image."
        )
    known = "".join((f", {PLATFORM}" if facts.platforms else "", f", user {facts.user}" if facts.user else ""))
    return f"image {text} is in its registry{known}"


def _is_number_of_a_user(user: str) -> bool:
    number = user.partition(":")[0]
    return number.isdecimal() and int(number) != 0


class _Requests:
    """Requests to a registry for one image, with an anonymous token where it gives one."""

    def __init__(self, reference: Reference, seconds: float) -> None:
        self._reference = reference
        self._pool = urllib3.PoolManager(timeout=seconds, retries=False)
        self._headers = {"Accept": _MANIFESTS}

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """The status, and the content of the response if it is an object."""
        url = f"{self._reference.url}/{path}"
        try:
            response = self._pool.request("GET", url, headers=self._headers, redirect=True)
            challenge = response.headers.get("WWW-Authenticate", "")
            if response.status == 401 and challenge.startswith("Bearer "):
                token = _token(self._pool, challenge)
                if token is not None:
                    self._headers["Authorization"] = f"Bearer {token}"
                    response = self._pool.request("GET", url, headers=self._headers)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableRegistryError(
                f"registry {self._reference.host} must be reachable; {' '.join(str(error).split())}. Check the image's "
                "name; a registry within the cluster cannot be reached from outside."
            ) from error
        try:
            found = json.loads(response.data)
        except ValueError:
            found = None
        return response.status, found if isinstance(found, dict) else {}


def _token(pool: Any, challenge: str) -> str | None:
    """An anonymous token, from the address that the registry's response names."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", None)
    if realm is None:
        return None
    response = pool.request("GET", realm, fields=fields)
    if response.status != 200:
        return None
    body = json.loads(response.data)
    return body.get("token") or body.get("access_token")
