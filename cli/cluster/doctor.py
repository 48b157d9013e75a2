# SPDX-License-Identifier: Apache-2.0
"""`learn2compress doctor`: tries what a run on a cluster will need. Exit status 2: a check has found a fault."""

from pathlib import Path

import typer

from learn2compress.cli.cluster.options import IMAGE, ROOT, SETTINGS, KubeAccess, Login, Place, with_options
from learn2compress.schemas.errors import ClusterError, ConfigError


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
    from learn2compress.schemas.config import load_config

    endpoint = place.open(login)
    if config is None and settings:
        raise ConfigError("--set must go with a configuration; got none. Name the file.")
    chosen = None if config is None else load_config(config, settings)
    kubernetes = access.open(endpoint)
    if probe and kubernetes is None:
        raise ConfigError("--probe must go with --kube; it runs a pod. Pass --kube.")
    from learn2compress.kubeflow.checks.doctor import examine

    faults = 0
    for finding in examine(endpoint, chosen, root, image, kubernetes, service_account, probe):
        faults += finding.is_fault
        typer.echo(f"{finding.mark} {finding.check}: {finding.detail}")
    if faults:
        raise ClusterError(f"every check must succeed before a run; {faults} of the checks found a fault.")
