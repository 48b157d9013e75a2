# SPDX-License-Identifier: Apache-2.0
"""Translates the engine that a configuration names into Beam arguments, and checks that it can be reached.

    direct     processes of this machine
    prism      Beam's portable runner in Go, one binary on this machine
    flink      a Flink cluster: its JobManager takes the job from a jar of Beam's job server
    spark      a Spark cluster, in the same way
    dataflow   Google Cloud Dataflow

An engine is checked before any work begins: a closed port or a missing jar is otherwise reported by the engine after
minutes, in a page of Java.
"""

import json
import os
import shutil
import socket
import urllib.request
from collections.abc import Iterable
from importlib import metadata

from learn2compress.components.beam.options import direct_runner_args
from learn2compress.schemas.config import PipelineConfig
from learn2compress.schemas.errors import EngineError

CONNECT_SECONDS = 5
# TFX would otherwise pack itself into an archive for the workers of every node; the workers have this package already.
NO_ARCHIVE = "--sdk_container_image=unused"


def beam_args(config: PipelineConfig) -> list[str]:
    """Builds the Beam arguments of a run.

    Args:
        config: Section `pipeline`; its `beam_args` are added to those of the runner, or replace them by name.
    """
    build = {
        "direct": lambda: direct_runner_args(config.workers),
        "prism": lambda: _prism_args(config),
        "flink": lambda: _flink_args(config),
        "spark": lambda: _spark_args(config),
        "dataflow": lambda: _dataflow_args(config),
    }[config.runner]
    exchange = [f"--exchange={config.exchange}"] if config.exchange and config.runner != "direct" else []
    return merge_args([*build(), *exchange], config.beam_args)


def merge_args(args: Iterable[str], further: Iterable[str]) -> list[str]:
    """Adds arguments to others; one that has the name of an earlier one replaces it.

    Args:
        args: Arguments of the form `--name=value` or `--name`.
        further: Arguments that prevail.
    """
    further = list(further)
    replaced = {_name(arg) for arg in further}
    return [*(arg for arg in args if _name(arg) not in replaced), *further]


def check_runner(config: PipelineConfig, section: str = "pipeline") -> None:
    """Checks that the engine can be reached, within a few seconds.

    Args:
        config: Section `pipeline`.
        section: Name of the section in which the user finds the settings, for messages.

    Raises:
        EngineError: A binary or a jar is missing, a port is closed, or a setting is missing.
    """
    if config.runner == "prism":
        if shutil.which(config.prism.location) is None:
            raise EngineError(
                f"pipeline.prism.location must be Beam's prism binary; got {config.prism.location}, which is missing. "
                f"Install it: go install github.com/apache/beam/sdks/v2/go/cmd/prism@v{_beam_version()}."
            )
    elif config.runner == "flink":
        _check_jar(f"{section}.flink", config.flink.job_server_jar)
        _check_port(f"{section}.flink.master", config.flink.master)
        _check_flink(f"{section}.flink.master", config.flink.master)
        _check_environment(
            f"{section}.flink", config.flink.environment, config.flink.environment_config, config.flink.master
        )
    elif config.runner == "spark":
        _check_jar("pipeline.spark", config.spark.job_server_jar)
        if config.spark.master.startswith("spark://"):
            _check_port("pipeline.spark.master", config.spark.master.removeprefix("spark://"))
        _check_environment(
            "pipeline.spark", config.spark.environment, config.spark.environment_config, config.spark.master
        )
    elif config.runner == "dataflow":
        missing = [name for name, value in config.dataflow if value is None]
        if missing:
            raise EngineError(f"pipeline.dataflow must have {', '.join(missing)}; got none. Add it to the config.")
        if config.exchange is None:
            raise EngineError(
                "pipeline.exchange must be given with the runner dataflow, whose workers share no file system; got "
                "none. Set it to gs://BUCKET/PATH."
            )


def has_own_workers(config: PipelineConfig) -> bool:
    """Whether Python runs in processes that others start, with a package that may be missing or another."""
    kinds = [arg.partition("=")[2] for arg in beam_args(config) if _name(arg) == "environment_type"]
    return bool(kinds) and kinds[-1] in ("EXTERNAL", "PROCESS")


def _prism_args(config: PipelineConfig) -> list[str]:
    location = shutil.which(config.prism.location) or config.prism.location
    return ["--runner=PrismRunner", f"--prism_location={location}", "--environment_type=LOOPBACK", NO_ARCHIVE]


def _flink_args(config: PipelineConfig) -> list[str]:
    flink = config.flink
    return [
        "--runner=FlinkRunner",
        f"--flink_master={flink.master}",
        "--flink_submit_uber_jar",
        f"--flink_job_server_jar={flink.job_server_jar}",
        f"--parallelism={flink.parallelism}",
        "--environment_cache_millis=10000",  # workers stay for the next stage
        *_environment_args(flink.environment, flink.environment_config),
        NO_ARCHIVE,
    ]


def _spark_args(config: PipelineConfig) -> list[str]:
    spark = config.spark
    return [
        "--runner=SparkRunner",
        f"--spark_master_url={spark.master}",
        f"--spark_job_server_jar={spark.job_server_jar}",
        "--environment_cache_millis=10000",
        *_environment_args(spark.environment, spark.environment_config),
        NO_ARCHIVE,
    ]


def _dataflow_args(config: PipelineConfig) -> list[str]:
    dataflow = config.dataflow
    return [
        "--runner=DataflowRunner",
        f"--project={dataflow.project}",
        f"--region={dataflow.region}",
        f"--temp_location={dataflow.temp_location}",
        f"--sdk_container_image={dataflow.image}",
    ]


def _environment_args(kind: str, config: str | None) -> list[str]:
    return [f"--environment_type={kind}", *([f"--environment_config={config}"] if config else [])]


def _check_jar(section: str, jar: str | None) -> None:
    if jar is None or not os.path.isfile(os.path.expanduser(jar)):
        runner = section.rpartition(".")[2]
        raise EngineError(
            f"{section}.job_server_jar must be the jar of Beam's job server for {runner.title()}; got {jar}. "
            f"Download beam-runners-{runner}-…-job-server-{_beam_version()}.jar from Maven Central."
        )


def _check_flink(field: str, master: str) -> None:
    """Checks that a JobManager answers, and that Beam supports its version."""
    try:
        with urllib.request.urlopen(f"http://{master}/config", timeout=CONNECT_SECONDS) as answer:
            version = str(json.load(answer)["flink-version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error if isinstance(error, OSError) else "its /config names no version of Flink"
        raise EngineError(
            f"{field} must be the REST address of a JobManager; {master} is something else: {reason}. "
            "Correct the address; the port is rest.port of Flink's configuration, 8081 by default."
        ) from error
    # Imported for a cluster that answers: the import takes seconds.
    from apache_beam.options.pipeline_options import FlinkRunnerOptions

    supported = FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    if version.rpartition(".")[0] not in supported and version not in supported:
        raise EngineError(
            f"the Flink at {master} must be of a version that Beam {_beam_version()} supports, {', '.join(supported)}; "
            f"got {version}. Use such a cluster, with the job server's jar of the same version."
        )


def _check_environment(section: str, kind: str, config: str | None, master: str) -> None:
    if kind == "LOOPBACK":
        return
    if config is None:
        raise EngineError(
            f"{section}.environment_config must be given with environment {kind}; got none. See docs/how-to/engines.md."
        )
    # An address on the machines of the workers cannot be tried from here.
    if kind == "EXTERNAL" and (_is_here(master) or not _is_here(config)):
        _check_port(f"{section}.environment_config", config)


def _is_here(address: str) -> bool:
    host = address.removeprefix("spark://").rpartition(":")[0]
    return host in ("localhost", "127.0.0.1", "")


def _check_port(field: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
            pass
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise EngineError(
            f"{field} must be the address of a service that runs; got {address}: {reason}. Start it, or correct "
            "the address."
        ) from error


def _beam_version() -> str:
    return metadata.version("apache-beam")


def _name(arg: str) -> str:
    return arg.split("=", 1)[0].lstrip("-")
