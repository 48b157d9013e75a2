# SPDX-License-Identifier: Apache-2.0
"""The section `pipeline`."""

from pydantic import Field

from learn2compress.schemas.config.types import NonNegativeInt, PositiveInt, Section


class PipelineConfig(Section):
    """Settings of the run."""

    name: str = Field(
        "learn2compress",
        pattern=r"^[a-z][a-z0-9-]{1,40}$",
        description="name of the pipeline; an output folder has a single pipeline",
    )
    seed: NonNegativeInt = Field(0, description="seed of views, initial weights and the order of images")
    workers: PositiveInt = Field(1, description="number of processes of Beam's DirectRunner")
    beam_args: list[str] = Field([], description="additional Beam arguments, for another runner")
    metadata: str | None = Field(
        None,
        description="ML Metadata address, mysql://, postgresql:// or grpc:// (default: SQLite in the output folder)",
    )
    push_to: str | None = Field(
        None, description="folder to which the standard Pusher copies the chosen file, if it is blessed"
    )
