# SPDX-License-Identifier: Apache-2.0
"""Options that several commands on a cluster have: the endpoint, the login, Kubernetes.

Options that belong together are the fields of a dataclass. A command takes the object, and `with_options` makes the
command line's options of its fields.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import typer

NAMESPACE = typer.Option(None, "--namespace", "-n", help="Your namespace, if the cluster has several users.")
ROOT = typer.Option(None, help="Pipeline root, such as s3://BUCKET/PATH (default: kubeflow.pipeline_root).")
IMAGE = typer.Option(None, help="Container image of the steps (default: kubeflow.image).")
CONFIG = typer.Argument(..., help="The YAML configuration.")
SETTINGS = typer.Option([], "--set", help="Override a field: --set distill.epochs=3 (repeatable).")


@dataclass(frozen=True)
class Login:
    """The options of the connection to an endpoint: who calls it, and how."""

    token: str | None = typer.Option(
        None, envvar="KF_PIPELINES_TOKEN", help="Bearer token; preferably set in the environment variable or a file."
    )
    token_file: Path | None = typer.Option(
        None, envvar="KF_PIPELINES_SA_TOKEN_PATH", help="File that holds the token; read again for each call."
    )
    cookies: str | None = typer.Option(
        None, envvar="KF_PIPELINES_COOKIES", help="Cookie header of a logged-in session."
    )
    ca_cert: Path | None = typer.Option(None, help="File with trusted certificates.")
    verify_tls: bool = typer.Option(True, "--verify-tls/--no-verify-tls", help="Check the server's certificate.")
    proxy: str | None = typer.Option(None, help="URL of a proxy.")

    def open(self, host: str, namespace: str | None) -> Any:
        """Make the endpoint that the options describe.

        Raises:
            ConfigError: A file cannot be read.
        """
        from learn2compress.api import clusters

        return clusters.connect(
            host, namespace=namespace, token=self.token, token_file=self.token_file, cookies=self.cookies,
            ca_cert=self.ca_cert, verify_tls=self.verify_tls, proxy=self.proxy,
        )  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The options that name an endpoint and a namespace there."""

    host: str = typer.Option(..., envvar="KF_PIPELINES_ENDPOINT", help="The endpoint, such as http://localhost:8888.")
    namespace: str | None = NAMESPACE

    def open(self, login: Login) -> Any:
        """Make the endpoint.

        Raises:
            ConfigError: A file that the login names cannot be read.
        """
        return login.open(self.host, self.namespace)


@dataclass(frozen=True)
class KubeAccess:
    """The options of queries to Kubernetes itself."""

    kube: bool = typer.Option(False, "--kube", help="Query Kubernetes as well, with the kubeconfig of kubectl.")
    kube_context: str | None = typer.Option(None, help="Context of the kubeconfig (default: the current one).")

    def open(self, endpoint: Any) -> Any:
        """Connect to Kubernetes if an option requires it.

        Raises:
            ClusterError: There is no kubeconfig.
        """
        from learn2compress.api import clusters

        return clusters.open_kube(self.kube, self.kube_context, endpoint)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a command that is an object of options by the options, at the same place.

    Args:
        command: A command whose parameters have types; those of the objects are dataclasses with typer's options as
            defaults.

    Returns:
        The function for typer, with the command's name and docstring.
    """
    types = get_type_hints(command)
    groups: dict[str, Any] = {name: kind for name, kind in types.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _options_of(groups[name])
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=types[name]))

    @functools.wraps(command)
    def called(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{one.name: given.pop(one.name) for one in fields(kind)})
        command(**given)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def _options_of(kind: Any) -> list[inspect.Parameter]:
    types = get_type_hints(kind)
    return [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=types[one.name])
        for one in fields(kind)
    ]
