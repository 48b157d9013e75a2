# SPDX-License-Identifier: Apache-2.0
"""`learn2compress submit`, `status`, `fetch`, `cancel` and `doctor`: runs on a Kubeflow Pipelines cluster.

Exit status: 0 success; 2 user error; 3 the run failed or was cancelled; 130 interrupted while the run continues.
"""

from pathlib import Path
from typing import Any

import typer

from learn2compress.pipeline.environment import prepare_environment
from learn2compress.schemas.config import load_config
from learn2compress.schemas.errors import ClusterError, ConfigError

HOST = typer.Option(..., envvar="KF_PIPELINES_ENDPOINT", help="The endpoint, such as http://localhost:8888.")
NAMESPACE = typer.Option(None, "--namespace", "-n", help="Your namespace, if the cluster has several users.")
TOKEN = typer.Option(
    None, envvar="KF_PIPELINES_TOKEN", help="Bearer token; preferably set in the environment variable or a file."
)
TOKEN_FILE = typer.Option(None, help="File that holds the token.")
COOKIES = typer.Option(None, envvar="KF_PIPELINES_COOKIES", help="Cookie header of a logged-in session.")
CA_CERT = typer.Option(None, help="File with trusted certificates.")
VERIFY_TLS = typer.Option(True, "--verify-tls/--no-verify-tls", help="Check the server's certificate.")
PROXY = typer.Option(None, help="URL of a proxy.")
ROOT = typer.Option(None, help="Pipeline root, such as s3://BUCKET/PATH (default: kubeflow.pipeline_root).")
IMAGE = typer.Option(None, help="Container image of the steps (default: kubeflow.image).")
OUTPUT = typer.Option(None, "--output", "-o", help="Folder for the models and the report.")
CONFIG = typer.Argument(..., help="The YAML configuration.")
RUN = typer.Argument(..., help="Id of the run, as printed by submit.")
SETTINGS = typer.Option([], "--set", help="Override a field: --set distill.epochs=3 (repeatable).")
WAIT = typer.Option(False, "--wait", help="Follow the run, node by node, until it ends.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (submit, status, fetch, cancel, doctor):
        app.command(command.__name__)(command)


def submit(
    config: Path = CONFIG,
    host: str = HOST,
    namespace: str | None = NAMESPACE,
    experiment: str = typer.Option("learn2compress", help="Name of the experiment; created if it does not exist."),
    root: str | None = ROOT,
    image: str | None = IMAGE,
    limit: int | None = typer.Option(None, min=1, help="Use at most this many examples of each split of the data."),
    service_account: str | None = typer.Option(None, help="Service account of the pods."),
    wait: bool = WAIT,
    output: Path | None = OUTPUT,
    settings: list[str] = SETTINGS,
    token: str | None = TOKEN,
    token_file: Path | None = TOKEN_FILE,
    cookies: str | None = COOKIES,
    ca_cert: Path | None = CA_CERT,
    verify_tls: bool = VERIFY_TLS,
    proxy: str | None = PROXY,
) -> None:
    """Run the pipeline on a cluster; with --wait follow it, and with --output fetch models and report at the end."""
    endpoint = _endpoint(host, namespace, token, token_file, cookies, ca_cert, verify_tls, proxy)
    chosen, base = load_config(config, settings), load_config(config)
    prepare_environment()
    from learn2compress.kubeflow.run_parameters import check_root
    from learn2compress.kubeflow.submission import submit as start

    check_root(root or chosen.kubeflow.pipeline_root)
    started = start(endpoint, chosen, base, root, image, limit, experiment, service_account, typer.echo)
    typer.echo(f"Started run {started.run} of pipeline {started.pipeline}, version {started.version}.")
    if not wait:
        typer.echo(f"Follow it: learn2compress status {started.run} --host {host} --wait")
        return
    _follow(endpoint, started.run)
    if output is not None:
        _fetch(started.root, started.run, output)
    else:
        _say_how_to_fetch(started.run, started.root)


def status(
    run: str = RUN,
    host: str = HOST,
    namespace: str | None = NAMESPACE,
    wait: bool = WAIT,
    token: str | None = TOKEN,
    token_file: Path | None = TOKEN_FILE,
    cookies: str | None = COOKIES,
    ca_cert: Path | None = CA_CERT,
    verify_tls: bool = VERIFY_TLS,
    proxy: str | None = PROXY,
) -> None:
    """Show the progress of a run; with --wait, follow it until it ends."""
    endpoint = _endpoint(host, namespace, token, token_file, cookies, ca_cert, verify_tls, proxy)
    if wait:
        _say_how_to_fetch(run, _follow(endpoint, run).root)
        return
    from learn2compress.kubeflow.client import connect
    from learn2compress.kubeflow.watch import check_success, get_state

    state = get_state(endpoint, connect(endpoint), run)
    typer.echo(f"{state.run} {state.name}: {state.state}")
    for node in state.nodes:
        _show(node)
    check_success(endpoint, state)


def fetch(
    run: str = RUN,
    output: Path = typer.Option(..., "--output", "-o", help="Folder for the models and the report."),
    host: str | None = typer.Option(None, envvar="KF_PIPELINES_ENDPOINT", help="The endpoint, to look up the root."),
    root: str | None = typer.Option(None, help="Pipeline root of the run; with it, no endpoint is needed."),
    namespace: str | None = NAMESPACE,
    token: str | None = TOKEN,
    token_file: Path | None = TOKEN_FILE,
    cookies: str | None = COOKIES,
    ca_cert: Path | None = CA_CERT,
    verify_tls: bool = VERIFY_TLS,
    proxy: str | None = PROXY,
) -> None:
    """Download a run's models, the chosen model, the report and the records to a folder."""
    from learn2compress.kubeflow.run_parameters import check_root

    if root is None:
        if host is None:
            raise ConfigError("an endpoint or the pipeline root must be given; got neither. Pass --host or --root.")
        from learn2compress.kubeflow.client import connect
        from learn2compress.kubeflow.watch import get_state

        endpoint = _endpoint(host, namespace, token, token_file, cookies, ca_cert, verify_tls, proxy)
        root = get_state(endpoint, connect(endpoint), run).root
    _fetch(check_root(root), run, output)


def cancel(
    run: str = RUN,
    host: str = HOST,
    namespace: str | None = NAMESPACE,
    token: str | None = TOKEN,
    token_file: Path | None = TOKEN_FILE,
    cookies: str | None = COOKIES,
    ca_cert: Path | None = CA_CERT,
    verify_tls: bool = VERIFY_TLS,
    proxy: str | None = PROXY,
) -> None:
    """Cancel a running run."""
    endpoint = _endpoint(host, namespace, token, token_file, cookies, ca_cert, verify_tls, proxy)
    from learn2compress.kubeflow.client import connect
    from learn2compress.kubeflow.watch import cancel as end

    end(endpoint, connect(endpoint), run)
    typer.echo(f"Run {run} is being cancelled.")


def doctor(
    config: Path | None = typer.Argument(None, help="The configuration, to check its teacher and data as well."),
    host: str = HOST,
    namespace: str | None = NAMESPACE,
    root: str | None = ROOT,
    image: str | None = IMAGE,
    settings: list[str] = SETTINGS,
    token: str | None = TOKEN,
    token_file: Path | None = TOKEN_FILE,
    cookies: str | None = COOKIES,
    ca_cert: Path | None = CA_CERT,
    verify_tls: bool = VERIFY_TLS,
    proxy: str | None = PROXY,
) -> None:
    """Check what a run on the cluster needs: endpoint, authorization, object store, image, teacher and data."""
    endpoint = _endpoint(host, namespace, token, token_file, cookies, ca_cert, verify_tls, proxy)
    if config is None and settings:
        raise ConfigError("--set must go with a configuration; got none. Name the file.")
    chosen = None if config is None else load_config(config, settings)
    from learn2compress.kubeflow.doctor import examine

    faults = 0
    for finding in examine(endpoint, chosen, root, image):
        faults += not finding.is_good
        typer.echo(f"{'ok   ' if finding.is_good else 'FAULT'} {finding.check}: {finding.detail}")
    if faults:
        raise ClusterError(f"every check must succeed before a run; {faults} of the checks found a fault.")


def _endpoint(
    host: str,
    namespace: str | None,
    token: str | None,
    token_file: Path | None,
    cookies: str | None,
    ca_cert: Path | None,
    verify_tls: bool,
    proxy: str | None,
) -> Any:
    from learn2compress.kubeflow.client import Endpoint

    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"--token-file {token_file} must be a readable file; {error.strerror}.") from error
    if ca_cert is not None and not ca_cert.is_file():
        raise ConfigError(f"--ca-cert {ca_cert} must be a readable file; it does not exist. Check the path.")
    return Endpoint(host, namespace, token, cookies, str(ca_cert) if ca_cert else None, verify_tls, proxy)


def _follow(endpoint: Any, run: str) -> Any:
    from learn2compress.kubeflow.client import connect
    from learn2compress.kubeflow.watch import explain_stall, follow

    def tell(node: Any) -> None:
        typer.echo(explain_stall(endpoint, node), err=True)

    try:
        state = follow(endpoint, connect(endpoint), run, _show, tell)
    except KeyboardInterrupt:
        again = f"learn2compress status {run} --host {endpoint.host} --wait"
        typer.echo(f"The run goes on. Attach again: {again}", err=True)
        raise
    typer.echo(f"Run {run} has succeeded.")
    return state


def _say_how_to_fetch(run: str, root: str | None) -> None:
    typer.echo(f"Fetch its models and report: learn2compress fetch {run} --root {root} --output OUT")


def _show(node: Any) -> None:
    state = "unchanged, from the cache" if node.state == "SKIPPED" else node.state.lower()
    typer.echo(f"  {node.node}: {state}")


def _fetch(root: str, run: str, output: Path) -> None:
    from learn2compress.kubeflow.fetch import fetch_run

    report, selected = fetch_run(root, run, output)
    typer.echo(f"Chosen: {report.choice.chosen}. It was written to {selected}, beside models/ and report.html.")
