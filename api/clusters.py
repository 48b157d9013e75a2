# SPDX-License-Identifier: Apache-2.0
"""Compiles the pipeline for Kubeflow Pipelines, and runs it on a cluster."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learn2compress.api.options import is_command_line, name_of
from learn2compress.api.results import Result
from learn2compress.api.running import Settings, list_settings
from learn2compress.pipeline.environment import prepare_environment
from learn2compress.schemas.errors import ConfigError, OutputError
from learn2compress.schemas.files.whole import write_named

if TYPE_CHECKING:
    from learn2compress.kubeflow.checks.finding import Finding
    from learn2compress.kubeflow.client import Endpoint
    from learn2compress.kubeflow.runs.pods import Kube
    from learn2compress.kubeflow.runs.states import RunState
    from learn2compress.kubeflow.submission import Submitted


def compile_pipeline(
    config: str | Path, output: str | Path = "pipeline.yaml", *, image: str | None = None, settings: Settings = ()
) -> Path:
    """Compile the pipeline for Kubeflow Pipelines; the same configuration gives the same bytes.

    Args:
        config: The YAML configuration.
        output: The file to write.
        image: Container image of the steps; by default kubeflow.image.
        settings: Overrides of fields, such as `{"distill.epochs": 3}`.

    Returns:
        The path of the file.

    Raises:
        ConfigError: The configuration is wrong.
        OutputError: The file cannot be written.
    """
    from learn2compress.schemas.config import load_config

    chosen = load_config(config, list_settings(settings))
    prepare_environment()
    from learn2compress.kubeflow.spec.compile import compile_pipeline as compile_chosen

    text, path = compile_chosen(chosen, image), Path(output)
    try:
        write_named(path, text)
    except OSError as error:
        raise OutputError(f"output {output} must be writable; {error.strerror}. Choose another place.") from error
    return path


def lint_pipeline(pipeline: str | Path) -> list[str]:
    """Check a compiled pipeline for constructs that a cluster refuses.

    Args:
        pipeline: A compiled pipeline.

    Returns:
        The faults, in sentences; none if the pipeline can run.

    Raises:
        ClusterError: The file cannot be read as a pipeline.
    """
    prepare_environment()
    from learn2compress.kubeflow.spec.lint import lint_file

    return lint_file(Path(pipeline))


def connect(
    host: str,
    *,
    namespace: str | None = None,
    token: str | None = None,
    token_file: str | Path | None = None,
    cookies: str | None = None,
    ca_cert: str | Path | None = None,
    verify_tls: bool = True,
    proxy: str | None = None,
) -> "Endpoint":
    """Describe the endpoint of a Kubeflow Pipelines cluster; it is called only when it is used.

    Args:
        host: The endpoint, such as http://localhost:8888.
        namespace: Your namespace, if the cluster has several users.
        token: Bearer token.
        token_file: File that holds the token; read again for each call.
        cookies: Cookie header of a logged-in session.
        ca_cert: File with trusted certificates.
        verify_tls: Check the server's certificate.
        proxy: URL of a proxy.

    Returns:
        The endpoint.

    Raises:
        ConfigError: A file cannot be read.
    """
    from learn2compress.kubeflow.client import Endpoint

    if ca_cert is not None and not Path(ca_cert).is_file():
        raise ConfigError(f"{name_of('ca_cert')} {ca_cert} must be a readable file; it does not exist. Check the path.")
    endpoint = Endpoint(
        host,
        namespace,
        token,
        cookies,
        str(ca_cert) if ca_cert else None,
        verify_tls,
        proxy,
        str(token_file) if token_file and not token else None,
    )
    _ = endpoint.bearer  # reports a missing file before anything else
    return endpoint


def open_kube(wanted: bool, context: str | None, endpoint: "Endpoint") -> "Kube | None":
    """Connect to Kubernetes if it is wanted.

    Args:
        wanted: Whether to query Kubernetes, with the kubeconfig of kubectl.
        context: Context of the kubeconfig; by default the current one. It implies `wanted`.
        endpoint: The cluster's endpoint.

    Returns:
        The connection, or None.

    Raises:
        ClusterError: There is no kubeconfig.
    """
    if not wanted and context is None:
        return None
    from learn2compress.kubeflow.runs.failures import namespace_of
    from learn2compress.kubeflow.runs.pods import Kube

    return Kube(namespace_of(endpoint), context)


def submit(
    config: str | Path,
    endpoint: "Endpoint",
    *,
    settings: Settings = (),
    limit: int | None = None,
    experiment: str = "learn2compress",
    root: str | None = None,
    image: str | None = None,
    service_account: str | None = None,
    every: str | None = None,
    check: bool = True,
    kube: "Kube | None" = None,
    say: Callable[[str], None] = print,
) -> "Submitted":
    """Start the pipeline on a cluster, or schedule it.

    Args:
        config: The YAML configuration.
        endpoint: The cluster's endpoint; see `connect`.
        settings: Overrides of fields for this run.
        limit: Use at most this many examples of each split of the data.
        experiment: Name of the experiment; created if it does not exist.
        root: Pipeline root, such as s3://BUCKET/PATH; by default kubeflow.pipeline_root.
        image: Container image of the steps; by default kubeflow.image.
        service_account: Service account of the pods.
        every: Run again and again: 30m, 6h, 1d or 2w, or six cron fields.
        check: Run the quick checks of `doctor` first.
        kube: Connection to Kubernetes, for the checks.
        say: Receives a sentence about each step.

    Returns:
        The started run, or the recurring one.

    Raises:
        ConfigError: The configuration is wrong.
        ClusterError: The cluster cannot be reached, or refuses the pipeline.
    """
    from learn2compress.schemas.config import load_config

    overrides = list_settings(settings)
    chosen, base = load_config(config, overrides), load_config(config)
    prepare_environment()
    from learn2compress.kubeflow.checks.doctor import check_quickly
    from learn2compress.kubeflow.schedule import Schedule
    from learn2compress.kubeflow.spec.run_parameters import check_root
    from learn2compress.kubeflow.submission import Order
    from learn2compress.kubeflow.submission import submit as start

    check_root(root or chosen.kubeflow.pipeline_root)
    schedule = Schedule.parse(every) if every else None
    if check:
        check_quickly(endpoint, chosen, root, image, kube)
    return start(endpoint, Order(chosen, base, root, image, limit, experiment, service_account, schedule), say)


def status(run: str, endpoint: "Endpoint") -> "RunState":
    """Return the state of a run and of its nodes.

    Args:
        run: Id of the run.
        endpoint: The cluster's endpoint.

    Returns:
        The state.

    Raises:
        ClusterError: The cluster cannot be reached, or has no such run.
    """
    from learn2compress.kubeflow.runs.states import get_state

    return get_state(endpoint, run)


def fetch(run: str, output: str | Path, *, root: str | None = None, endpoint: "Endpoint | None" = None) -> Result:
    """Download a run's models, the chosen model, the report and the records to a folder.

    Args:
        run: Id of the run.
        output: Folder for the models and the report.
        root: Pipeline root of the run; with it, no endpoint is needed.
        endpoint: The cluster's endpoint, to look up the root.

    Returns:
        The result.

    Raises:
        ConfigError: Neither root nor endpoint is given.
        ClusterError: The cluster or the object store cannot be reached, or the run has not finished.
    """
    from learn2compress.kubeflow.fetch import fetch_run
    from learn2compress.kubeflow.spec.run_parameters import check_root

    if root is None:
        if endpoint is None:
            ways = f"{name_of('host' if is_command_line() else 'endpoint')} or {name_of('root')}"
            raise ConfigError(f"an endpoint or the pipeline root must be given; got neither. Pass {ways}.")
        root = status(run, endpoint).root
    fetch_run(check_root(root), run, Path(output))
    return Result(output)


def cancel(run: str, endpoint: "Endpoint") -> None:
    """Cancel a running run.

    Args:
        run: Id of the run.
        endpoint: The cluster's endpoint.

    Raises:
        ClusterError: The cluster cannot be reached, or refuses.
    """
    from learn2compress.kubeflow.runs.following import cancel as end

    end(endpoint, run)


def doctor(
    endpoint: "Endpoint",
    config: str | Path | None = None,
    *,
    settings: Settings = (),
    root: str | None = None,
    image: str | None = None,
    kube: Any = None,
    service_account: str = "learn2compress",
    probe: bool = False,
) -> "Iterator[Finding]":
    """Check what a run on the cluster needs: endpoint, rights, object store, image, teacher, data, settings.

    Args:
        endpoint: The cluster's endpoint.
        config: The configuration, to check its teacher and data as well.
        settings: Overrides of fields.
        root: Pipeline root; by default kubeflow.pipeline_root.
        image: Container image of the steps; by default kubeflow.image.
        kube: Connection to Kubernetes; see `open_kube`.
        service_account: Service account of the pods.
        probe: Run a pod of the image that tries the object store from inside the namespace.

    Returns:
        The findings, one after another as they are made.

    Raises:
        ConfigError: The configuration is wrong.
    """
    from learn2compress.schemas.config import load_config

    overrides = list_settings(settings)
    if config is None and overrides:
        name = name_of("set" if is_command_line() else "settings")
        raise ConfigError(f"{name} must go with a configuration; got none. Name the file.")
    if probe and kube is None:
        kube_name = name_of("kube")
        raise ConfigError(f"{name_of('probe')} must go with {kube_name}; it runs a pod. Pass {kube_name}.")
    chosen = None if config is None else load_config(config, overrides)
    from learn2compress.kubeflow.checks.doctor import examine

    return iter(examine(endpoint, chosen, root, image, kube, service_account, probe))
