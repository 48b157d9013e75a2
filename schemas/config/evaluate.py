# SPDX-License-Identifier: Apache-2.0
"""The section `evaluate`."""

from pydantic import Field

from learn2compress.schemas.config.types import PositiveInt, Section


class EvaluateConfig(Section):
    """The measurements of every file."""

    top_k: PositiveInt = Field(
        5, description="number of predicted classes of which one must be the label, for top-k accuracy"
    )
    threads: list[PositiveInt] = Field(
        [1], description="numbers of threads with which latency is measured", min_length=1
    )
    latency_runs: PositiveInt = Field(50, description="timed invocations for each file and number of threads")
    device_results: str | None = Field(None, description="JSON file of figures measured on a phone")
