# SPDX-License-Identifier: Apache-2.0
"""The section `pipeline`."""

from pydantic import Field

from learn2compress.schemas.config.types import NonNegativeInt, PositiveInt, Section


class PipelineConfig(Section):
    """How the run itself is done."""

    name: str = Field(
        "learn2compress", pattern=r"^[a-z][a-z0-9-]{1,40}$", description="of the pipeline: an output folder holds one"
    )
    seed: NonNegativeInt = Field(0, description="of views, initial weights and the order of images")
    workers: PositiveInt = Field(1, description="processes of Beam's DirectRunner")
    beam_args: list[str] = Field([], description="further Beam arguments, to use another runner")
    metadata: str | None = Field(
        None, description="mysql://, postgresql:// or grpc:// address (default: SQLite in the output folder)"
    )
    push_to: str | None = Field(None, description="folder to which the standard Pusher copies a blessed choice")
