# SPDX-License-Identifier: Apache-2.0
"""`learn2compress submit`, `status`, `fetch` and `cancel`: runs on a Kubeflow Pipelines cluster.

Exit status: 0 success; 2 user error; 3 the run failed or was cancelled; 130 interrupted while the run continues.
"""

from pathlib import Path
from typing import Any

import typer

from learn2compress.cli.cluster.options import (
    CONFIG,
    IMAGE,
    NAMESPACE,
    ROOT,
    SETTINGS,
    KubeAccess,
    Login,
    Place,
    with_options,
)
from learn2compress.cli.interruption import InterruptedBySignal
from learn2compress.schemas.errors import ConfigError

OUTPUT = typer.Option(None, "--output", "-o", help="Folder for the models and the report.")
RUN = typer.Argument(..., help="Id of the run, as printed by submit.")
WAIT = typer.Option(False, "--wait", help="Follow the run, node by node, until it ends.")
EVERY = typer.Option(
    None, help="Run again and again: every 30m, 6h, 1d or 2w, or six cron fields as '0 30 2 * * *' (each night)."
)
_STATES = {
    "CACHED": "unchanged, from the cache",
    "OMITTED": "omitted by the cluster",
    "CANCELED": "cancelled",
    "NOT_STARTED": "not started",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (submit, status, fetch, cancel):
        app.command(command.__name__)(with_options(command))


def submit(
    *,
    config: Path = CONFIG,
    place: Place,
    experiment: str = typer.Option("learn2compress", help="Name of the experiment; created if it does not exist."),
    root: str | None = ROOT,
    image: str | None = IMAGE,
    limit: int | None = typer.Option(None, min=1, help="Use at most this many examples of each split of the data."),
    service_account: str | None = typer.Option(None, help="Service account of the pods."),
    every: str | None = EVERY,
    wait: bool = WAIT,
    output: Path | None = OUTPUT,
    settings: list[str] = SETTINGS,
    check: bool = typer.Option(True, "--check/--no-check", help="Run the quick checks of doctor first."),
    access: KubeAccess,
    login: Login,
) -> None:
    """Run the pipeline on a cluster; with --wait follow it, and with --output fetch models and report at the end."""
    from learn2compress.api import clusters

    endpoint = place.open(login)
    if every and (wait or output):
        raise ConfigError("--every must be given without --wait and --output; a schedule has no end. Leave them out.")
    kubernetes = access.open(endpoint)
    started = clusters.submit(
        config,
        endpoint,
        settings=settings,
        limit=limit,
        experiment=experiment,
        root=root,
        image=image,
        service_account=service_account,
        every=every,
        check=check,
        kube=kubernetes,
        say=typer.echo,
    )
    if every:
        typer.echo(
            f"Scheduled pipeline {started.pipeline}, version {started.version}, every {every}: recurring run "
            f"{started.run}. Its runs, and the way to end it, are in the web interface under Recurring Runs."
        )
        return
    typer.echo(f"Started run {started.run} of pipeline {started.pipeline}, version {started.version}.")
    if not wait:
        typer.echo(f"Follow it: learn2compress status {started.run} --host {place.host} --wait")
        return
    _follow(endpoint, started.run, kubernetes)
    if output is not None:
        _fetch(started.root, started.run, output)
    else:
        _say_how_to_fetch(started.run, started.root)


def status(
    *,
    run: str = RUN,
    place: Place,
    wait: bool = WAIT,
    log: str | None = typer.Option(None, metavar="NODE", help="Print the log of a step in place of the states."),
    access: KubeAccess,
    login: Login,
) -> None:
    """Show the progress of a run; with --wait, follow it until it ends; with --log NODE, print the log of a step."""
    from learn2compress.api import clusters

    endpoint = place.open(login)
    kubernetes = access.open(endpoint)
    if wait:
        _say_how_to_fetch(run, _follow(endpoint, run, kubernetes).root)
        return
    from learn2compress.kubeflow.runs.following import check_success
    from learn2compress.kubeflow.runs.logs import fetch_log

    state = clusters.status(run, endpoint)
    if log is not None:
        typer.echo(fetch_log(state, log, kubernetes))
        return
    typer.echo(f"{state.run} {state.name}: {state.state}")
    for node in state.nodes:
        _show(node)
    check_success(endpoint, state, kubernetes)


def fetch(
    *,
    run: str = RUN,
    output: Path = typer.Option(..., "--output", "-o", help="Folder for the models and the report."),
    host: str | None = typer.Option(None, envvar="KF_PIPELINES_ENDPOINT", help="The endpoint, to look up the root."),
    root: str | None = typer.Option(None, help="Pipeline root of the run; with it, no endpoint is needed."),
    namespace: str | None = NAMESPACE,
    login: Login,
) -> None:
    """Download a run's models, the chosen model, the report and the records to a folder."""
    endpoint = None
    if root is None and host is not None:
        endpoint = login.open(host, namespace)
    _fetch(root, run, output, endpoint)


def cancel(
    *,
    run: str = RUN,
    place: Place,
    wait: bool = typer.Option(False, "--wait", help="Wait until the run has ended."),
    login: Login,
) -> None:
    """Cancel a running run."""
    from learn2compress.api import clusters
    from learn2compress.kubeflow.runs.following import check_success, follow, was_cancelled

    endpoint = place.open(login)
    clusters.cancel(run, endpoint)
    typer.echo(f"Run {run} is being cancelled.")
    if not wait:
        return
    state = follow(endpoint, run, _show)
    if was_cancelled(state):
        typer.echo(f"Run {run} was cancelled. What its finished steps made stays in the object store and the cache.")
        return
    check_success(endpoint, state)
    typer.echo(f"Run {run} had succeeded before it could be cancelled.")


def _follow(endpoint: Any, run: str, kube: Any) -> Any:
    from learn2compress.kubeflow.runs.following import check_success, follow

    try:
        state = follow(endpoint, run, _show, lambda sentence: typer.echo(sentence, err=True), kube)
    except InterruptedBySignal as interrupted:
        again = f"learn2compress status {run} --host {endpoint.host} --wait"
        interrupted.remedy = f"{again} attaches again, and the run continues on the cluster"
        raise
    check_success(endpoint, state, kube)
    typer.echo(f"Run {run} has succeeded.")
    return state


def _say_how_to_fetch(run: str, root: str | None) -> None:
    typer.echo(f"Fetch its models and report: learn2compress fetch {run} --root {root} --output OUT")


def _show(node: Any) -> None:
    state = _STATES.get(node.state, node.state.lower())
    typer.echo(f"  {node.node}: {state}{f', try {node.tries}' if node.tries > 1 else ''}")


def _fetch(root: str | None, run: str, output: Path, endpoint: Any = None) -> None:
    from learn2compress.api import clusters

    result = clusters.fetch(run, output, root=root, endpoint=endpoint)
    typer.echo(
        f"Chosen: {result.data.choice.chosen}. It was written to {result.selected}, beside models/ and report.html."
    )
