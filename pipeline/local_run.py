# SPDX-License-Identifier: Apache-2.0
"""Runs the whole DAG on this machine: LocalDagRunner, Beam's local runner, ML Metadata.

A second run with the same configuration and contents is served from the cache. A run that was killed resumes after the
last finished node, and within a training after the last finished epoch.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.local import local_dag_runner
from tfx.orchestration.portable import beam_executor_operator, launcher

from learn2compress.components.beam.jobs import open_job, try_again
from learn2compress.components.beam.options import user_errors
from learn2compress.components.execution.coordination import dismiss_workers
from learn2compress.components.node import BeamNodeExecutor
from learn2compress.compression.family.sizing import label_bytes
from learn2compress.compression.pruning.channel_targets import check_reachable
from learn2compress.compression.pruning.passes import choose_passes
from learn2compress.compression.pruning.prunable import prunable
from learn2compress.compression.students.architecture import design
from learn2compress.compression.students.earlier_run import open_earlier, students_sha256
from learn2compress.compression.students.origin import check_students_from_teacher, decide_origin
from learn2compress.compression.teacher.formats import describe_file, no_features
from learn2compress.compression.teacher.models import open_model
from learn2compress.compression.teacher.trust import check_graph, check_layers
from learn2compress.compression.training.devices.distribution import open_distribution
from learn2compress.compression.training.devices.memory import return_freed_memory
from learn2compress.compression.training.devices.workers import check_divisible
from learn2compress.data.sources.formats import data_digest, open_source, resolve_task
from learn2compress.evaluation.latency.measuring import model_of_host
from learn2compress.evaluation.latency.table import model_text, read_table, recorded_model
from learn2compress.evaluation.measure import this_host
from learn2compress.lineage.mlmd.address import connection_config
from learn2compress.lineage.mlmd.store import open_store
from learn2compress.lineage.records.output_record import TRAINED_TEACHER, record_output_folder
from learn2compress.lineage.records.provenance import write_record
from learn2compress.modalities import InputFiles, modality_named
from learn2compress.pipeline.code_version import code_version
from learn2compress.pipeline.dag import Inputs, build_pipeline
from learn2compress.pipeline.output.folder import claim_output
from learn2compress.pipeline.output.left_out_records import write_left_out_records
from learn2compress.pipeline.output.leftovers import remove_leftovers
from learn2compress.report.assembly import assemble_report, part_of, read_thumbnails, write_report
from learn2compress.report.bundle import write_bundle
from learn2compress.schemas.config import INIT_WORDS, Config, PipelineConfig, StudentsConfig
from learn2compress.schemas.digests import file_sha256, path_sha256
from learn2compress.schemas.files.whole import copy_whole
from learn2compress.schemas.manifests import DEFAULT_MODALITY
from learn2compress.schemas.module_source import read_module
from learn2compress.schemas.progress import say
from learn2compress.schemas.reports import Report


@dataclass(frozen=True)
class NodeEvent:
    """The start or the end of a node.

    Attributes:
        node: Name of the node.
        index: Index of the node in the run, from 1.
        total: Number of nodes.
        seconds: Duration of the node; None at its start.
        cached: Whether its outputs came from the cache.
        execution: Id of the execution in ML Metadata; None at its start.
    """

    node: str
    index: int
    total: int
    seconds: float | None = None
    cached: bool = False
    execution: int | None = None


NodeListener = Callable[[NodeEvent], None]


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run.

    Attributes:
        artifacts: Folders of the artifacts by "Node.output".
        executed: Names of the nodes that ran.
        cached: Names of the nodes that were served from the cache.
    """

    artifacts: dict[str, Path]
    executed: tuple[str, ...]
    cached: tuple[str, ...]


def run_pipeline(
    config: Config, output: str | Path, limit: int | None = None, on_node: NodeListener = lambda _: None
) -> RunResult:
    """Runs all nodes.

    Args:
        config: Configuration of the run.
        output: Output folder; created if it does not exist.
        limit: Number of examples to take from each part of the data; None for all.
        on_node: Listener that is called at the start and at the end of each node.

    Returns:
        The folders of the artifacts, and which nodes ran.

    Raises:
        Learn2CompressError: A user error; the message is one line.
    """
    output = Path(output).resolve()
    distribution = open_distribution(config.distill.strategy)  # before any other use of TensorFlow
    check_divisible(config.distill.batch_size, distribution.replicas)
    claim_output(output, config.pipeline.name)
    if config.students.origin == "auto":
        config, why = decide_origin(config)
        say(why)
    config, inputs = resolve_inputs(config, limit)
    connection = connection_config(config.pipeline.metadata, output)
    store = open_store(connection)  # raises before any work is done if the database cannot be used
    root = output / "pipeline"
    if written := write_left_out_records(store, root):
        say(f"{len(written)} records that an interruption had left out were written")
    if removed := remove_leftovers(store, output):
        say(f"{len(removed)} leftovers of interrupted attempts were removed")
    pipeline = build_pipeline(config, inputs, str(root), connection)
    artifacts: dict[str, Path] = {}
    executed: list[str] = []
    cached: list[str] = []

    def finished(event: NodeEvent, outputs: dict[str, str]) -> None:
        (cached if event.cached else executed).append(event.node)
        artifacts.update({f"{event.node}.{key}": Path(uri) for key, uri in outputs.items()})
        on_node(event)

    with user_errors(), _on_engine(config.pipeline), _watched(root, len(pipeline.components), on_node, finished):
        local_dag_runner.LocalDagRunner().run(pipeline)
    dismiss_workers(distribution)
    return RunResult(artifacts, tuple(executed), tuple(cached))


def resolve_inputs(config: Config, limit: int | None) -> tuple[Config, Inputs]:
    """Reads the contents behind the configuration's paths, and checks the configuration against them.

    Args:
        config: Configuration as the user wrote it.
        limit: Number of examples to take from each part of the data; None for all.

    Returns:
        The configuration with the shape of the images, by default the teacher's input shape; and the digests.

    Raises:
        DataError, TeacherError: A path does not exist, or its contents are of another kind.
        StudentModuleError: A user's own students violate the contract.
        PassError: A pruning pass is not installed or is invalid.
        FamilyError: The sizes or the pruning target are out of reach, or the initial students are of another family.
        TrainingError: The initial students do not exist.
    """
    # The quick check comes first, so that an invalid model is reported before the data are read.
    teacher = describe_file(config.teacher.path)
    if config.distill.init == "features" and teacher.format == "saved-model":
        raise no_features(config.teacher.path)
    check_layers(teacher)
    check_graph(teacher.path, config.teacher.trust)
    module = read_module(config.students.module) if config.students.module else None
    choose_passes(config.prune)
    starts_from_students = config.distill.init not in INIT_WORDS
    init_sha256 = students_sha256(config.distill.init) if starts_from_students else None
    source = open_source(config.data, limit)
    default = None
    modality = modality_named(source.modality)
    if source.example_shape is None:
        files = InputFiles.named_by(config.teacher)
        chosen = config.teacher
        opened = open_model(teacher, chosen.signature, chosen.output, modality, files, chosen.trust)
        default = opened.input.shape
    task = resolve_task(config.data, source, default)
    data = modality.with_shape(config.data, task.input_shape)
    # Unreachable sizes and targets and invalid modules are reported here, before the long inference of the teacher.
    teacher_sha256 = path_sha256(config.teacher.path)
    if config.students.origin == "teacher":
        check_students_from_teacher(config, teacher_sha256, task)
        model_of_host(this_host(), say)
        inputs = Inputs(data_digest(data), teacher_sha256, code_version(), limit)
        return config.model_copy(update={"data": data}), inputs
    latency = _latency_model(config.students) if task.modality == DEFAULT_MODALITY else None
    model = recorded_model(latency) if latency else None
    students = design(config.students, module, task, config.distill.student_weights, model)
    students.preflight()
    if starts_from_students:
        sizes, blocks = config.students.sizes, config.students.blocks
        students = open_earlier(config.distill.init, students, sizes, task, init_sha256, blocks).architecture
    if config.prune.channels is not None and task.modality == DEFAULT_MODALITY:
        names = tuple(students.costs())
        found = prunable(students.build(0), names, students.spec, label_bytes(task.classes))
        check_reachable(found, config.prune.channels)
    encoding = config.teacher.tokenizer or config.teacher.vocabulary
    encoding_sha256 = file_sha256(encoding) if encoding else None
    inputs = Inputs(
        data_digest(data), teacher_sha256, code_version(), limit, module, init_sha256, encoding_sha256, latency
    )
    return config.model_copy(update={"data": data}), inputs


def _latency_model(students: StudentsConfig) -> str | None:
    """Determine the latencies of the device for which students are limited, or which the user names.

    Those of this machine are measured in any case, since the table before training shows them; where they limit
    nothing, they are no parameter of a node.
    """
    if students.module is not None:
        return None
    table = students.latency_table
    model = read_table(table) if table else model_of_host(this_host(), say)
    return model_text(model) if table or students.limits_latency else None


def collect_outputs(result: RunResult, output: Path) -> Path:
    """Copies the results to OUT/models/*.tflite and OUT/selected.tflite, and a jointly trained teacher to
    OUT/trained_teacher/.

    Args:
        result: Outcome of the run.
        output: Output folder OUT.

    Returns:
        The path of the chosen model.
    """
    output = Path(output)
    models = output / "models"
    fresh = output / ".models"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for file in sorted(result.artifacts[part_of("Quantizer.models", result.artifacts)].glob("*.tflite")):
        copy_whole(file, fresh / file.name)
    shutil.rmtree(models, ignore_errors=True)
    fresh.rename(models)
    trained = output / TRAINED_TEACHER
    shutil.rmtree(trained, ignore_errors=True)
    if jointly_trained := result.artifacts.get("Distiller.trained_teacher"):
        shutil.copytree(jointly_trained / "model", trained)
    selected = output / "selected.tflite"
    (chosen,) = result.artifacts["StudentSelector.model"].rglob("*.tflite")
    copy_whole(chosen, selected)
    return selected


def report_run(config: Config, result: RunResult, output: Path) -> Report:
    """Writes OUT/report.json and OUT/report.html."""
    report = assemble_report(config.model_dump(mode="json"), result.artifacts)
    write_report(output, report, read_thumbnails(result.artifacts["TFLiteEvaluator.evaluation"]))
    return report


def bundle_run(result: RunResult, output: Path, report: Report, selected: Path) -> Path:
    """Writes OUT/bundle.zip, and the record of all files in OUT.

    Returns:
        The bundle's path.
    """
    bundle = write_bundle(
        output, report, selected, result.artifacts[part_of("ImageExampleGen.examples", result.artifacts)]
    )
    record_output_folder(output, result.artifacts.values())
    return bundle


@contextmanager
def _watched(
    root: Path, total: int, on_start: NodeListener, on_end: Callable[[NodeEvent, dict[str, str]], None]
) -> Iterator[None]:
    """Writes the record of each node that LocalDagRunner launches, and calls the listeners.

    LocalDagRunner has no hook for this, so TFX's launcher is wrapped while the context lasts.
    """
    original = launcher.Launcher.launch
    count = 0

    def launch(self: Any) -> Any:
        nonlocal count
        count += 1
        node = self._pipeline_node.node_info.id
        on_start(NodeEvent(node, count, total))
        began = time.monotonic()
        info = original(self)
        return_freed_memory()
        with self._mlmd_connection as handle:
            write_record(handle.store, info.execution_id, root)
            execution = handle.store.get_executions_by_id([info.execution_id])[0]
            outputs = _output_uris(handle.store, info.execution_id)
        cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
        on_end(NodeEvent(node, count, total, time.monotonic() - began, cached, info.execution_id), outputs)
        return info

    launcher.Launcher.launch = launch
    try:
        yield
    finally:
        launcher.Launcher.launch = original


@contextmanager
def _on_engine(config: PipelineConfig) -> Iterator[None]:
    """Gives the engine to each Beam step that LocalDagRunner runs.

    A step's arguments belong to TFX's cache key if they are in the DAG; TFX has no other way to set them, so its
    operator is wrapped while the context lasts.
    """
    operator = beam_executor_operator.BeamExecutorOperator
    original = operator.run_executor

    def run_executor(self: Any, execution_info: Any) -> Any:
        is_ours = issubclass(self._executor_cls, BeamNodeExecutor)
        return try_again(lambda: original(self, execution_info, lambda: open_job(config, is_ours)))

    operator.run_executor = run_executor
    try:
        yield
    finally:
        operator.run_executor = original


def _output_uris(store: MetadataStore, execution_id: int) -> dict[str, str]:
    """Collects the folder of each output by key, the first one if there are several."""
    kinds = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.DECLARED_OUTPUT)
    events = [e for e in store.get_events_by_execution_ids([execution_id]) if e.type in kinds]
    uris = {a.id: a.uri for a in store.get_artifacts_by_id([e.artifact_id for e in events])}
    return {e.path.steps[0].key: uris[e.artifact_id] for e in reversed(events)}
