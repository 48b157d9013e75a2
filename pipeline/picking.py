# SPDX-License-Identifier: Apache-2.0
"""Chooses another of the measured files of a run under other limits, without training and without TensorFlow.

The choice is recorded as an execution of a node `Pick` in the run's ML Metadata store, with the evaluation as its input
and a Selection as its output, and in a provenance record beside it. The files in OUT, including the bundle, are
replaced last, so that a failure to write the record changes nothing.
"""

import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from learn2compress.evaluation.predictions import PREDICTIONS, validation_correctness
from learn2compress.evaluation.selection import choose
from learn2compress.lineage.records.output_record import record_another_choice
from learn2compress.pipeline.output.lock import hold_output
from learn2compress.pipeline.what_if import WhatIf, list_what_ifs
from learn2compress.report.assembly import HIDDEN, REPORT, read_thumbnails, write_report
from learn2compress.report.bundle import BUNDLE, build_bundle, find_examples, save_bundle
from learn2compress.schemas.config import SelectConfig
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import LineageError, ModelFileError, OutputError, full_disk
from learn2compress.schemas.files.whole import copy_whole
from learn2compress.schemas.manifests import read_manifest, write_manifest
from learn2compress.schemas.reports import EVALUATION, SELECTION, Choice, Evaluation, Limits, Report

if TYPE_CHECKING:
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as mlmd

NODE = "Pick"
EXECUTION_TYPE = "learn2compress.pipeline.picking.Pick"
EVALUATION_TYPE = "learn2compress.ModelEvaluation"
SELECTION_TYPE = "learn2compress.Selection"


class Choices(NamedTuple):
    """What a choice is made from."""

    report: Report
    folder: Path  # of the ModelEvaluation artifact
    correctness: dict[str, np.ndarray]  # by candidate, [validation images] bool

    def choose(self, select: SelectConfig) -> Choice:
        """Choose a file; see `evaluation.selection.choose`."""
        limits = Limits(**select.model_dump(exclude={"objective"}))
        return choose(self.report.evaluation, limits, select.objective, self.correctness)

    def what_ifs(self) -> list[WhatIf]:
        """List the limits at which the choice changes, with what they choose."""
        return list_what_ifs(self.report.evaluation, self.correctness)


class Picked(NamedTuple):
    """The outcome of choosing again."""

    report: Report
    selected: Path
    execution: int  # id in ML Metadata
    bundle: Path | None  # None if the test images are missing: those of a cluster stay there


def pick(output: str | Path, select: SelectConfig, metadata: str | None = None) -> Picked:
    """Chooses again from the measured files of a finished run.

    Args:
        output: Folder of a finished run.
        select: New limits and objective, which replace those of the run.
        metadata: Address of the metadata store, if it is neither OUT/metadata.db nor the address in the run's report.

    Returns:
        The new report, and the paths of the chosen file and of the bundle.

    Raises:
        OutputError: The folder holds no finished run, another command works in it, or it cannot be written.
        SelectionError: No candidate satisfies the limits; all files stay unchanged.
        ModelFileError: The chosen file is not the one that was measured.
        LineageError: The metadata store does not contain the evaluation.
        DataError: The test images, some of which go into the bundle, are damaged.
    """
    output = Path(output)
    _require_run(output)
    with hold_output(output, "pick"):
        try:
            return _pick(output, select, metadata)
        except OSError as error:
            raise full_disk(error) or OutputError(
                f"output {output} must be readable and writable; {error}. Change its permissions, or copy it elsewhere."
            ) from error


def open_choices(output: str | Path) -> Choices:
    """Reads what a choice is made from, to see what would be chosen without choosing it.

    Args:
        output: Folder of a finished run.

    Raises:
        OutputError: The folder holds no finished run.
    """
    output = Path(output)
    _require_run(output)
    report = read_manifest(output, Report, REPORT)
    folder = find_evaluation(output, report.evaluation)
    return Choices(report, folder, validation_correctness(folder / PREDICTIONS))


def _require_run(output: Path) -> None:
    if not (output / REPORT).is_file():
        raise OutputError(f"{output} must hold a finished run; there is no {REPORT}. Run `learn2compress run` first.")


def _pick(output: Path, select: SelectConfig, metadata: str | None) -> Picked:
    choices = open_choices(output)
    report, folder, _ = choices
    choice = choices.choose(select)
    source = _model_file(output, report.evaluation, choice)
    changed = report.model_copy(
        update={"choice": choice, "created": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    )
    examples = find_examples(output, report)
    bundle = build_bundle(changed, source, examples) if examples else None
    execution, selection = _record(output, folder, report, choice, select, metadata)
    write_report(output, changed, read_thumbnails(folder))
    selected = output / "selected.tflite"
    copy_whole(source, selected)
    path = _replace_bundle(output, bundle)
    record_another_choice(output, selection)
    return Picked(changed, selected, execution, path)


def _replace_bundle(output: Path, bundle: bytes | None) -> Path | None:
    """Writes the bundle of the new choice, or removes the bundle of the former one."""
    if bundle is not None:
        return save_bundle(output, bundle)
    (output / BUNDLE).unlink(missing_ok=True)
    return None


def find_evaluation(output: Path, evaluation: Evaluation) -> Path:
    """Finds the evaluation that the report shows among those of earlier runs in the same folder.

    Args:
        output: Folder of a finished run.
        evaluation: Evaluation of the run's report.

    Returns:
        Folder of the ModelEvaluation artifact.

    Raises:
        OutputError: There is none.
    """
    folders = sorted((output / "pipeline").glob(f"*/evaluation/*/{EVALUATION}"), key=os.path.getmtime, reverse=True)
    for path in folders:
        if read_manifest(path.parent, Evaluation, EVALUATION) == evaluation:
            return path.parent
    raise OutputError(
        f"{output}/pipeline must hold the evaluation that {REPORT} shows; it is in none of {len(folders)} folders. "
        "Run `learn2compress run` again."
    )


def _model_file(output: Path, evaluation: Evaluation, choice: Choice) -> Path:
    chosen = next(c for c in evaluation.candidates if c.name == choice.chosen)
    path = output / "models" / Path(chosen.file).name
    found = file_sha256(path) if path.is_file() else "no file"
    if found != chosen.sha256:
        raise ModelFileError(
            f"{path} must be the file that was measured, with SHA-256 {chosen.sha256}; got {found}. "
            "Run `learn2compress run` again."
        )
    return path


def _record(
    output: Path, folder: Path, report: Report, choice: Choice, select: SelectConfig, address: str | None
) -> tuple[int, Path]:
    """Writes the Selection and its records; returns the id of the execution and the folder of the Selection."""
    # Imported here, because it takes half a second and no other function needs it.
    from learn2compress.lineage.mlmd.store import store_errors

    section = report.config.get("pipeline")
    address = address or (section.get("metadata") if isinstance(section, dict) else None)
    if HIDDEN in address if address else not (output / "metadata.db").is_file():
        raise LineageError(
            f"the metadata store of the run must be known; got {address or f'no {output}/metadata.db'}. "
            "Give its address by --metadata."
        )
    with store_errors(address or f"{output}/metadata.db"):
        return _record_in(address, output, folder, report, choice, select)


def _record_in(
    address: str | None, output: Path, folder: Path, report: Report, choice: Choice, select: SelectConfig
) -> tuple[int, Path]:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    from learn2compress.lineage.mlmd.address import connection_config
    from learn2compress.lineage.mlmd.store import open_store
    from learn2compress.lineage.records.provenance import write_record

    root = (output / "pipeline").resolve()
    store = open_store(connection_config(address, output.resolve()))
    evaluation = _evaluation_artifact(store, folder)
    contexts = _contexts(store, evaluation)
    execution = mlmd.Execution(
        type_id=store.put_execution_type(mlmd.ExecutionType(name=EXECUTION_TYPE)),
        last_known_state=mlmd.Execution.RUNNING,
        name=f"{NODE}-{time.time_ns()}",
    )
    for name, value in select.model_dump(mode="json", exclude_none=True).items():
        _set(execution.custom_properties[f"select_{name}"], value)
    [execution.id] = store.put_executions([execution])

    place = root / NODE / "selection" / str(execution.id)
    write_manifest(place, choice, SELECTION)
    selection = mlmd.Artifact(
        type_id=store.put_artifact_type(mlmd.ArtifactType(name=SELECTION_TYPE)),
        uri=str(place),
        state=mlmd.Artifact.LIVE,
    )
    chosen = next(c for c in report.evaluation.candidates if c.name == choice.chosen)
    properties: dict[str, str | float] = {
        "chosen": chosen.name,
        "sha256": chosen.sha256,
        "objective": choice.objective,
        **{f"{split}_accuracy": figures.top1 for split, figures in chosen.figures.items()},
    }
    for name, value in properties.items():
        _set(selection.custom_properties[name], value)
    execution.last_known_state = mlmd.Execution.COMPLETE
    store.put_execution(
        execution,
        [
            (evaluation, _event(mlmd.Event.INPUT, "evaluation")),
            (selection, _event(mlmd.Event.OUTPUT, "selection")),
        ],
        contexts,
    )
    write_record(store, execution.id, root)
    return execution.id, place


def _evaluation_artifact(store: "MetadataStore", folder: Path) -> "mlmd.Artifact":
    """Finds the evaluation artifact of a folder, whose recorded path may be of another machine or an earlier place."""
    parts = folder.resolve().parts
    for artifact in store.get_artifacts_by_type(EVALUATION_TYPE):
        if Path(artifact.uri).parts[-3:] == parts[-3:]:
            return artifact
    raise LineageError(
        f"The metadata store must contain the evaluation in {folder}; it does not. "
        "Give the address of the store of that run by --metadata."
    )


def _contexts(store: "MetadataStore", evaluation: "mlmd.Artifact") -> list["mlmd.Context"]:
    """Collects the contexts of the execution: the pipeline and the run of the evaluation, and the node `Pick`."""
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    contexts = [c for c in store.get_contexts_by_artifact(evaluation.id) if c.type in ("pipeline", "pipeline_run")]
    pipeline = next((c.name for c in contexts if c.type == "pipeline"), "")
    name = f"{pipeline}.{NODE}"
    node = store.get_context_by_type_and_name("node", name)
    if node is None:
        node = mlmd.Context(type_id=store.put_context_type(mlmd.ContextType(name="node")), name=name)
        [node.id] = store.put_contexts([node])
    return [*contexts, node]


def _event(kind: int, key: str) -> "mlmd.Event":
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    return mlmd.Event(type=kind, path=mlmd.Event.Path(steps=[{"key": key}, {"index": 0}]))


def _set(value: "mlmd.Value", plain: float | int | str) -> None:
    kinds = {int: "int_value", float: "double_value", str: "string_value"}
    setattr(value, kinds[type(plain)], plain)
