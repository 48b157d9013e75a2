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
)
from learn2compress.schemas.errors import ClusterError


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
    from learn2compress.api import clusters

    endpoint = clusters.connect(
        host, namespace=namespace, token=token, token_file=token_file, cookies=cookies, ca_cert=ca_cert,
        verify_tls=verify_tls, proxy=proxy,
    )  # fmt: skip
    findings = clusters.doctor(
        endpoint,
        config,
        settings=settings,
        root=root,
        image=image,
        kube=clusters.open_kube(kube, kube_context, endpoint),
        service_account=service_account,
        probe=probe,
    )
    faults = 0
    for finding in findings:
        faults += finding.is_fault
        typer.echo(f"{finding.mark} {finding.check}: {finding.detail}")
    if faults:
        raise ClusterError(f"every check must succeed before a run; {faults} of the checks found a fault.")
