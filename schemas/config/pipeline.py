# SPDX-License-Identifier: Apache-2.0
"""The section `pipeline`."""

from pydantic import Field, model_validator
from typing_extensions import Self

from learn2compress.schemas.config.runners import (
    DataflowConfig,
    Exchange,
    FlinkConfig,
    PrismConfig,
    Runner,
    SparkConfig,
)
from learn2compress.schemas.config.types import NonNegativeInt, PositiveInt, Section


class PipelineConfig(Section):
    """Settings of the run."""

    name: str = Field(
        "learn2compress",
        pattern=r"^[a-z][a-z0-9-]{1,40}$",
        description="name of the pipeline; an output folder has a single pipeline",
    )
    seed: NonNegativeInt = Field(0, description="seed of views, initial weights and the order of images")
    runner: Runner = Field(
        "direct", description="engine of the Beam steps; results are the same, see docs/how-to/engines.md"
    )
    workers: PositiveInt = Field(1, description="number of processes of the runner direct")
    prism: PrismConfig = Field(PrismConfig(), description="settings of the runner prism: {location}")
    flink: FlinkConfig = Field(
        FlinkConfig(),
        description="settings of the runner flink: {master, job_server_jar, parallelism, environment, "
        "environment_config}",
    )
    spark: SparkConfig = Field(
        SparkConfig(),
        description="settings of the runner spark: {master, job_server_jar, environment, environment_config}",
    )
    dataflow: DataflowConfig = Field(
        DataflowConfig(), description="settings of the runner dataflow: {project, region, temp_location, image}"
    )
    exchange: Exchange | None = Field(
        None,
        description="s3://, gs:// or minio:// address through which the workers of another runner get and leave files "
        "(default: they share the file system of this machine)",
    )
    beam_args: list[str] = Field(
        [], description="further Beam arguments, which are added to those of the runner or replace them"
    )
    metadata: str | None = Field(
        None,
        description="ML Metadata address, mysql://, postgresql:// or grpc:// (default: SQLite in the output folder)",
    )
    push_to: str | None = Field(
        None, description="folder to which the standard Pusher copies the chosen file, if it is blessed"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.workers > 1 and self.runner != "direct":
            remedy = {"flink": "set flink.parallelism", "spark": "set the cores of spark.master"}
            raise ValueError(
                f"workers must be left out with the runner {self.runner}, since it belongs to the runner direct; got "
                f"{self.workers}; {remedy.get(self.runner, 'the runner decides itself')} instead"
            )
        return self
