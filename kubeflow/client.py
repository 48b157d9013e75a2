# SPDX-License-Identifier: Apache-2.0
"""The connection to a Kubeflow Pipelines endpoint: kfp's client, whose failures come out as one line with a remedy."""

import contextlib
import io
import json
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import urllib3

from learn2compress.schemas.errors import ClusterError

HEALTH = "/apis/v2beta1/healthz"
_SECONDS = 10


@dataclass(frozen=True)
class Endpoint:
    """Where the api-server is and who asks; as kfp's client has it.

    Attributes:
        host: URL, as http://localhost:8888 or https://kubeflow.example/pipeline.
        namespace: The user's, where the cluster has several users; else None.
        token: For the header Authorization: Bearer.
        cookies: The header Cookie, where a login page guards the endpoint.
        ca_cert: File with the certificates to trust.
        verify_tls: Whether the server's certificate is checked.
        proxy: URL of a proxy.
    """

    host: str
    namespace: str | None = None
    token: str | None = None
    cookies: str | None = None
    ca_cert: str | None = None
    verify_tls: bool = True
    proxy: str | None = None

    @property
    def url(self) -> str:
        """With a scheme, and no slash at its end."""
        return (self.host if "://" in self.host else f"https://{self.host}").rstrip("/")

    def get(self, path: str) -> tuple[int, bytes]:
        """Asks the endpoint for a path, once.

        Returns:
            The status and the body of its answer.

        Raises:
            ClusterError: It does not answer, or its certificate is not trusted.
        """
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= {"Cookie": self.cookies} if self.cookies else {}
        settings: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED" if self.verify_tls else "CERT_NONE"}
        settings |= {"ca_certs": self.ca_cert} if self.ca_cert else {}
        try:
            pool = urllib3.ProxyManager(self.proxy, **settings) if self.proxy else urllib3.PoolManager(**settings)
            answer = pool.request("GET", self.url + path, headers=headers, timeout=_SECONDS, retries=False)
            return answer.status, answer.data
        except (urllib3.exceptions.SSLError, ssl.SSLError) as error:
            raise ClusterError(
                f"the certificate of {self.url} must be trusted; {_line(error)}. Pass --ca-cert FILE."
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterError(
                f"{self.url} must be reachable; {_line(error)}. Check --host; for a cluster without a public address: "
                "kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888, then --host http://localhost:8888"
            ) from error


def check_health(endpoint: Endpoint) -> dict[str, Any]:
    """Ask the endpoint how it is.

    Returns:
        What it says: multi_user, and versions where it gives them.

    Raises:
        ClusterError: It does not answer, refuses, or is something else than Kubeflow Pipelines.
    """
    status, body = endpoint.get(HEALTH)
    if status in (401, 403) or status in range(300, 400):
        raise ClusterError(_refused(endpoint.url, f"HTTP {status}"))
    try:
        found = json.loads(body) if status == 200 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ClusterError(
            f"{endpoint.url} must be a Kubeflow Pipelines endpoint of version 2; {HEALTH} gives HTTP {status}. "
            "Check --host: it ends before /apis."
        )
    return found


def connect(endpoint: Endpoint) -> Any:
    """Open kfp's client.

    Raises:
        ClusterError: As check_health; asked first, since kfp's own client tries for half a minute.
    """
    health = check_health(endpoint)
    if health.get("multi_user") and not endpoint.namespace:
        raise ClusterError(f"{endpoint.url} has several users, so a namespace must be given; got none. Pass -n NAME.")
    from kfp import Client

    logging.getLogger("kfp").setLevel(logging.ERROR)
    with talking(endpoint):
        client = Client(
            host=endpoint.url,
            namespace=endpoint.namespace or "kubeflow",
            existing_token=endpoint.token,
            cookies=endpoint.cookies,
            ssl_ca_cert=endpoint.ca_cert,
            verify_ssl=endpoint.verify_tls,
            proxy=endpoint.proxy,
        )
    # What an earlier client of this user has written into its own settings file is not this call's wish.
    client._context_setting["namespace"] = endpoint.namespace or ""
    return client


@contextmanager
def talking(endpoint: Endpoint) -> Iterator[None]:
    """Turns what kfp raises into one line, and its links on standard output away."""
    from kfp_server_api import ApiException

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except ApiException as error:
        reason = _reason(error)
        if error.status in (401, 403):
            raise ClusterError(_refused(endpoint.url, reason)) from error
        if error.status == 404:
            raise ClusterError(f"{endpoint.url} must know what is asked for; it says: {reason}.") from error
        raise ClusterError(f"{endpoint.url} must do what is asked; it says: {reason} (HTTP {error.status}).") from error
    except (urllib3.exceptions.HTTPError, TimeoutError, ConnectionError) as error:
        raise ClusterError(f"{endpoint.url} must be reachable; {_line(error)}. Check the network.") from error


def _refused(url: str, reason: str) -> str:
    return f"{url} must accept who asks; it says: {reason}. Pass a token that is valid: --token, or --token-file FILE."


def _reason(error: Any) -> str:
    try:
        body = json.loads(error.body)
    except (TypeError, ValueError):
        return " ".join(str(error.body or error.reason).split()).rstrip(".")
    return " ".join(str(body.get("message") or body.get("error") or body).split()).rstrip(".")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
