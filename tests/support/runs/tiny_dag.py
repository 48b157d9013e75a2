# SPDX-License-Identifier: Apache-2.0
"""Runs a DAG of trivial nodes, one of them TFX's own, with TFX's launcher and a real metadata store.

Gen ─► Train ─► Convert          Teacher is imported from a folder outside the pipeline root
"""

import os
from collections.abc import Callable
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler.compiler import Compiler
from tfx.dsl.compiler.constants import PIPELINE_RUN_ID_PARAMETER_NAME
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable.launcher import Launcher
from tfx.orchestration.portable.runtime_parameter_utils import substitute_runtime_parameter
from tfx.types.standard_artifacts import Examples

from learn2compress.schemas.artifacts import OnDeviceModelSet, StudentSet, Teacher


@component
def Gen(examples: OutputArtifact[Examples], text: Parameter[str] = "x", count: Parameter[int] = 3) -> None:
    for split in ("train", "test"):
        os.makedirs(f"{examples.uri}/Split-{split}")
        Path(examples.uri, f"Split-{split}", "data").write_text(split + text * count)
    examples.split_names = '["train", "test"]'


@component
def Train(
    examples: InputArtifact[Examples],
    teacher: InputArtifact[Teacher],
    students: OutputArtifact[StudentSet],
    rate: Parameter[float] = 4.0,
    seed: Parameter[int] = 7,
) -> None:
    data = Path(examples.uri, "Split-train", "data").read_text()
    os.makedirs(students.uri, exist_ok=True)
    Path(students.uri, "student.h5").write_text(f"{data}{Path(teacher.uri, 'model').read_text()}{rate}{seed}")
    students.set_float_custom_property("small_accuracy", 1.0)
    students.set_int_custom_property("students", 1)


@component
def Convert(students: InputArtifact[StudentSet], models: OutputArtifact[OnDeviceModelSet]) -> None:
    os.makedirs(models.uri, exist_ok=True)
    Path(models.uri, "small-int8.tflite").write_text("tflite " + Path(students.uri, "student.h5").read_text())


def run(
    root: Path,
    teacher: Path,
    database: Path | metadata_store_pb2.ConnectionConfig,
    run_id: str,
    after: Callable[[int], None],
    text: str = "x",
    rate: float = 4.0,
) -> None:
    """Runs the DAG; `after` is called with the id of each execution after its node has finished."""
    connection = metadata.sqlite_metadata_connection_config(str(database)) if isinstance(database, Path) else database
    gen = Gen(text=text)
    imported = Importer(source_uri=str(teacher), artifact_type=Teacher).with_id("TeacherImporter")
    train = Train(examples=gen.outputs["examples"], teacher=imported.outputs["result"], rate=rate)
    convert = Convert(students=train.outputs["students"])
    pipeline = Pipeline(
        "tiny",
        str(root),
        components=[gen, imported, train, convert],
        enable_cache=True,
        metadata_connection_config=connection,
    )
    compiled = Compiler().compile(pipeline)
    substitute_runtime_parameter(compiled, {PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
    deployment = runner_utils.extract_local_deployment_config(compiled)
    for node in compiled.nodes:
        info = Launcher(
            pipeline_node=node.pipeline_node,
            mlmd_connection=metadata.Metadata(connection),
            pipeline_info=compiled.pipeline_info,
            pipeline_runtime_spec=compiled.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, node.pipeline_node.node_info.id),
        ).launch()
        after(info.execution_id)
