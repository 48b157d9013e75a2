# SPDX-License-Identifier: Apache-2.0
"""The sections of the engines on which the Beam steps run, below `pipeline`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from learn2compress.schemas.config.types import PositiveInt, Section

HostAndPort = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+:[0-9]{1,5}$")]
Runner = Literal["direct", "prism", "flink", "spark", "dataflow"]
Exchange = Annotated[str, Field(pattern=r"^(s3|gs|minio)://[^/]+/.+")]
Environment = Literal["LOOPBACK", "PROCESS", "EXTERNAL", "DOCKER"]


class PrismConfig(Section):
    """Beam's own portable runner, one program on this machine."""

    location: str = Field("prism", description="path of the binary, or its name on PATH")


class FlinkConfig(Section):
    """A Flink cluster."""

    master: HostAndPort = Field("localhost:8081", description="REST address of the JobManager, HOST:PORT")
    job_server_jar: str | None = Field(
        None, description="path of beam-runners-flink-VERSION-job-server.jar for the cluster's version of Flink"
    )
    parallelism: PositiveInt = Field(1, description="number of parallel instances of each operator")
    environment: Environment = Field(
        "LOOPBACK",
        description="where Python runs: LOOPBACK: in this process; EXTERNAL: in worker pools beside the TaskManagers; "
        "PROCESS: started by them; DOCKER: in containers",
    )
    environment_config: str | None = Field(
        None, description="EXTERNAL: HOST:PORT of the worker pool; PROCESS: a JSON with the boot command; DOCKER: image"
    )


class ClusterFlinkConfig(FlinkConfig):
    """A Flink session cluster in the namespace of the steps, as kubeflow/manifests/flink makes one."""

    master: HostAndPort = Field("learn2compress-flink:8081", description="REST address of the JobManager, HOST:PORT")
    job_server_jar: str | None = Field(
        None,
        description="beam-runners-flink-VERSION-job-server.jar: s3://, gs:// or minio:// address, or path in the "
        "containers of the steps",
    )
    environment: Environment = Field("EXTERNAL", description="where Python runs, as for pipeline.flink")
    environment_config: str | None = Field(
        None, description="as for pipeline.flink (default with EXTERNAL: localhost:50000, as a TaskManager sees it)"
    )

    @model_validator(mode="before")
    @classmethod
    def _worker_pool_beside_the_task_manager(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("environment", "EXTERNAL") != "EXTERNAL":
            return values
        return {**values, "environment_config": values.get("environment_config") or "localhost:50000"}


class SparkConfig(Section):
    """A Spark cluster."""

    master: str = Field("local[2]", description="address of the master: spark://HOST:PORT, or local[CORES]")
    job_server_jar: str | None = Field(None, description="path of beam-runners-spark-VERSION-job-server.jar")
    environment: Environment = Field("LOOPBACK", description="where Python runs, as for Flink")
    environment_config: str | None = Field(None, description="as for Flink")


class DataflowConfig(Section):
    """Google Cloud Dataflow."""

    project: str | None = Field(None, description="project on Google Cloud")
    region: str | None = Field(None, description="region, such as europe-west1")
    temp_location: str | None = Field(None, pattern=r"^gs://.+", description="gs://BUCKET/PATH for temporary files")
    image: str | None = Field(None, description="container image of the workers, with this package (`make image`)")
