# SPDX-License-Identifier: Apache-2.0
"""`learn2compress doctor`: tries what a run on a cluster will need. Exit status 2: a check has found a fault."""

from pathlib import Path

import typer

from learn2compress.cli.cluster.options import IMAGE, ROOT, SETTINGS, KubeAccess, Login, Place, with_options
from learn2compress.schemas.errors import ClusterError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(with_options(doctor))


def doctor(
    *,
    config: Path | None = typer.Argument(None, help="The configuration, to check its teacher and data as well."),
    place: Place,
    root: str | None = ROOT,
    image: str | None = IMAGE,
    service_account: str = typer.Option("learn2compress", help="Service account of the pods."),
    settings: list[str] = SETTINGS,
    access: KubeAccess,
    probe: bool = typer.Option(
        False, help="With --kube: run a pod of the image that tries the object store from inside the namespace."
    ),
    login: Login,
) -> None:
    """Check what a run on the cluster needs: endpoint, rights, object store, image, teacher, data, settings."""
    from learn2compress.api import clusters

    endpoint = place.open(login)
    findings = clusters.doctor(
        endpoint,
        config,
        settings=settings,
        root=root,
        image=image,
        kube=access.open(endpoint),
        service_account=service_account,
        probe=probe,
    )
    faults = 0
    for finding in findings:
        faults += finding.is_fault
        typer.echo(f"{finding.mark} {finding.check}: {finding.detail}")
    if faults:
        raise ClusterError(f"every check must succeed before a run; {faults} of the checks found a fault.")
