# SPDX-License-Identifier: Apache-2.0
"""`learn2compress doctor`: tries what a run on a cluster will need. Exit status 2: a check has found a fault."""

from pathlib import Path

import typer

from learn2compress.cli.cluster.options import (
    CA_CERT,
    COOKIES,
    HOST,
    IMAGE,
    KUBE,
    KUBE_CONTEXT,
    NAMESPACE,
    PROXY,
    ROOT,
    SETTINGS,
    TOKEN,
    TOKEN_FILE,
    VERIFY_TLS,
    open_endpoint,
    open_kube,
)
from learn2compress.schemas.errors import ClusterError, ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    config: Path | None = typer.Argument(None, help="The configuration, to check its teacher and data as well."),
    host: str = HOST,
    namespace: str | None = NAMESPACE,
    root: str | None = ROOT,
    image: str | None = IMAGE,
    service_account: str = typer.Option("learn2compress", help="Service account of the pods."),
    settings: list[str] = SETTINGS,
    kube: bool = KUBE,
    kube_context: str | None = KUBE_CONTEXT,
    probe: bool = typer.Option(
        False, help="With --kube: run a pod of the image that tries the object store from inside the namespace."
    ),
    token: str | None = TOKEN,
    token_file: Path | None = TOKEN_FILE,
    cookies: str | None = COOKIES,
    ca_cert: Path | None = CA_CERT,
    verify_tls: bool = VERIFY_TLS,
    proxy: str | None = PROXY,
) -> None:
    """Check what a run on the cluster needs: endpoint, rights, object store, image, teacher, data, settings."""
    from learn2compress.schemas.config import load_config

    endpoint = open_endpoint(host, namespace, token, token_file, cookies, ca_cert, verify_tls, proxy)
    if config is None and settings:
        raise ConfigError("--set must go with a configuration; got none. Name the file.")
    chosen = None if config is None else load_config(config, settings)
    kubernetes = open_kube(kube, kube_context, endpoint)
    if probe and kubernetes is None:
        raise ConfigError("--probe must go with --kube; it runs a pod. Pass --kube.")
    from learn2compress.kubeflow.checks.doctor import examine

    faults = 0
    for finding in examine(endpoint, chosen, root, image, kubernetes, service_account, probe):
        faults += finding.is_fault
        typer.echo(f"{finding.mark} {finding.check}: {finding.detail}")
    if faults:
        raise ClusterError(f"every check must succeed before a run; {faults} of the checks found a fault.")
