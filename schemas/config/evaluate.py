# SPDX-License-Identifier: Apache-2.0
"""The section `evaluate`."""

from pydantic import Field

from learn2compress.schemas.config.types import PositiveInt, Section


class EvaluateConfig(Section):
    """What is measured of every file."""

    top_k: PositiveInt = Field(5, description="a prediction counts if the label is among so many")
    threads: list[PositiveInt] = Field([1], description="latency is measured with each number of threads", min_length=1)
    latency_runs: PositiveInt = Field(50, description="timed invocations a file and thread count")
    device_results: str | None = Field(None, description="a JSON file of figures measured on a phone")
