# SPDX-License-Identifier: Apache-2.0
"""The engine of the Beam steps on a cluster, as a step finds it in its environment and uses it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from learn2compress.kubeflow.spec.engine import ENGINE_VARIABLE
from learn2compress.schemas.config import PipelineConfig
from learn2compress.schemas.errors import ClusterError
from learn2compress.storage.addresses import is_remote
from learn2compress.storage.object_store import download


def read_engine(output_uri: str, scratch: Path) -> PipelineConfig | None:
    """Reads the engine of a step.

    Args:
        output_uri: Address of an output of the step; files are exchanged beside it, unless an exchange is given.
        scratch: Folder for the job server's jar.

    Returns:
        The section `pipeline`; None for the engine of one machine.

    Raises:
        ClusterError: The environment holds something else, or the jar cannot be fetched.
    """
    text = os.environ.get(ENGINE_VARIABLE)
    if not text:
        return None
    try:
        config = PipelineConfig.model_validate_json(text)
    except ValueError as error:
        raise ClusterError(f"{ENGINE_VARIABLE} must be what was compiled; got {text[:80]}. Compile again.") from error
    if config.exchange is None:
        config = config.model_copy(update={"exchange": f"{output_uri.rstrip('/').rpartition('/')[0]}/exchange"})
    jar = config.flink.job_server_jar
    if config.runner == "flink" and jar and is_remote(jar):
        flink = config.flink.model_copy(update={"job_server_jar": str(download(jar, scratch / "jar"))})
        config = config.model_copy(update={"flink": flink})
    return config


@contextmanager
def on_engine(config: PipelineConfig | None) -> Iterator[None]:
    """Gives the engine to the Beam step that tfx runs while the context lasts, after a look whether it is there.

    Raises:
        EngineError: It cannot be reached.
    """
    if config is None:
        yield
        return
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor

    from learn2compress.components.beam.jobs import open_job
    from learn2compress.components.beam.runners import check_runner
    from learn2compress.components.node import BeamNodeExecutor

    check_runner(config, section="kubeflow")
    original = BaseBeamExecutor._make_beam_pipeline

    def make(self: Any) -> Any:
        return open_job(config, isinstance(self, BeamNodeExecutor))

    BaseBeamExecutor._make_beam_pipeline = make
    try:
        yield
    finally:
        BaseBeamExecutor._make_beam_pipeline = original
