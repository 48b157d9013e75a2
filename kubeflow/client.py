# SPDX-License-Identifier: Apache-2.0
"""The connection to a Kubeflow Pipelines endpoint: kfp's client, whose failures come out as one line with a remedy."""

import contextlib
import io
import json
import logging
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from learn2compress.schemas.errors import ClusterError, ConfigError

HEALTH = "/apis/v2beta1/healthz"
_SECONDS = 10


@dataclass(frozen=True)
class Endpoint:
    """Address of the api-server and the caller's credentials, as kfp's client takes them.

    Attributes:
        host: URL, as http://localhost:8888 or https://kubeflow.example/pipeline.
        namespace: The user's, where the cluster has several users; else None.
        token: For the header Authorization: Bearer.
        token_file: File that holds the token, in place of the token.
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
    token_file: str | None = None

    @property
    def url(self) -> str:
        """With a scheme, and no slash at its end."""
        return (self.host if "://" in self.host else f"https://{self.host}").rstrip("/")

    @property
    def bearer(self) -> str | None:
        """The token as it is now; a file is read for each call, since a cluster's tokens change while a run goes on."""
        if self.token_file is None:
            return self.token
        try:
            return Path(self.token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"--token-file {self.token_file} must be a readable file; {error.strerror}.") from error

    def get(self, path: str) -> tuple[int, bytes]:
        """Request a path once.

        Returns:
            The status and the body of the response.

        Raises:
            ClusterError: There is no response, or the certificate is not trusted.
        """
        return self._request("GET", path)

    def call(self, method: str, path: str) -> dict[str, Any]:
        """Make a call of the api-server.

        Returns:
            The response; empty where it has no content.

        Raises:
            ClusterError: There is no response, or it is a refusal.
        """
        status, body = self._request(method, path)
        if status != 200:
            raise ClusterError(_failure(self.url, status, body))
        try:
            response = json.loads(body or b"{}")
        except ValueError:
            response = None
        if not isinstance(response, dict):
            raise ClusterError(f"{self.url} must answer in JSON; {path} gives something else. Check --host.")
        return response

    def _request(self, method: str, path: str) -> tuple[int, bytes]:
        bearer = self.bearer
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        headers |= {"Cookie": self.cookies} if self.cookies else {}
        settings: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED" if self.verify_tls else "CERT_NONE"}
        if self.verify_tls and self.ca_cert:
            settings["ca_certs"] = self.ca_cert
        try:
            pool = urllib3.ProxyManager(self.proxy, **settings) if self.proxy else urllib3.PoolManager(**settings)
            response = pool.request(method, self.url + path, headers=headers, timeout=_SECONDS, retries=False)
            return response.status, response.data
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
    """Request the endpoint's health.

    Returns:
        multi_user, and versions where it gives them.

    Raises:
        ClusterError: It does not respond, refuses, or is something else than Kubeflow Pipelines.
    """
    status, body = endpoint.get(HEALTH)
    if status in (401, 403) or status in range(300, 400):
        raise ClusterError(_refused(endpoint.url, f"HTTP {status}", status == 403))
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
        ClusterError: As check_health, which is called first, since kfp's own client tries for half a minute.
    """
    health = check_health(endpoint)
    if health.get("multi_user") and not endpoint.namespace:
        raise ClusterError(f"{endpoint.url} has several users, so a namespace must be given; got none. Pass -n NAME.")
    logging.getLogger("kfp").setLevel(logging.ERROR)
    # kfp warns of older versions of the backend, and its dependencies of the Python version: neither concerns the user.
    with warnings.catch_warnings(), talking(endpoint):
        warnings.simplefilter("ignore", FutureWarning)
        from kfp import Client

        client = Client(
            host=endpoint.url,
            namespace=endpoint.namespace or "kubeflow",
            existing_token=endpoint.bearer,
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
        raise ClusterError(_failure(endpoint.url, error.status, error.body or error.reason)) from error
    except (urllib3.exceptions.HTTPError, TimeoutError, ConnectionError) as error:
        raise ClusterError(f"{endpoint.url} must be reachable; {_line(error)}. Check the network.") from error


def _refused(url: str, reason: str, forbidden: bool = False) -> str:
    remedy = "Pass a token that is valid: --token, or --token-file FILE."
    if forbidden:
        remedy = (
            "Pass the namespace in which you have the rights (-n NAME), or a token that has them (--token-file FILE)."
        )
    return f"{url} must accept the caller; it says: {reason}. {remedy}"


def _failure(url: str, status: int, body: Any) -> str:
    """Describe a refused call in one line."""
    reason = _reason(body)
    if status in (401, 403):
        return _refused(url, reason, status == 403)
    if status == 404:
        return f"{url} must have what is requested; it says: {reason}."
    return f"{url} must accept the request; it says: {reason} (HTTP {status})."


def _reason(body: Any) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        found = json.loads(text)
    except ValueError:
        return " ".join(text.split()).rstrip(".")
    reason = (found.get("message") or found.get("error") or found) if isinstance(found, dict) else found
    return " ".join(str(reason).split()).rstrip(".")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
