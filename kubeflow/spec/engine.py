# SPDX-License-Identifier: Apache-2.0
"""The engine of the Beam steps on a cluster, as the compiler checks it and writes it for the step.

It travels in an environment variable of the container, since the backend's cache key holds a step's arguments and not
its environment: the same work on another engine stays a cache hit, as on one machine.
"""

from learn2compress.schemas.config import Config, PipelineConfig
from learn2compress.schemas.errors import ConfigError
from learn2compress.storage.addresses import is_remote

ENGINE_VARIABLE = "LEARN2COMPRESS_ENGINE"


def cluster_pipeline(config: Config) -> PipelineConfig:
    """Makes the section `pipeline` of a step on a cluster: its own engine in place of this machine's.

    Args:
        config: The configuration; `pipeline.beam_args` are kept if they were written for the same engine.
    """
    own, settings = config.pipeline, config.kubeflow
    return PipelineConfig(
        runner=settings.runner,
        flink=settings.flink.model_dump(),
        dataflow=own.dataflow,
        exchange=settings.exchange,
        beam_args=own.beam_args if own.runner == settings.runner else [],
    )


def check_engine(config: Config) -> None:
    """Refuses an engine that no step could use.

    Raises:
        ConfigError: The job server's jar is not given, or lies on this machine; or settings of Dataflow are missing.
    """
    settings = config.kubeflow
    if settings.runner == "flink":
        jar = settings.flink.job_server_jar
        if jar is None or not (is_remote(jar) or jar.startswith("/")):
            raise ConfigError(
                "kubeflow.flink.job_server_jar must be an s3://, gs:// or minio:// address, or a path in the "
                f"containers; got {jar}. Upload beam-runners-flink-…-job-server.jar and name its address."
            )
        if settings.flink.environment == "LOOPBACK":
            raise ConfigError(
                "kubeflow.flink.environment must be EXTERNAL, PROCESS or DOCKER, since TaskManagers cannot reach a "
                "step's container; got LOOPBACK. Leave it out."
            )
    elif settings.runner == "dataflow":
        missing = [name for name, value in config.pipeline.dataflow if value is None]
        if missing:
            raise ConfigError(f"pipeline.dataflow must have {', '.join(missing)}; got none. Add it to the config.")


def write_engine(config: Config) -> str:
    """Writes the engine for the environment of a step, without what has its default."""
    return cluster_pipeline(config).model_dump_json(exclude_defaults=True)
