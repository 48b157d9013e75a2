# SPDX-License-Identifier: Apache-2.0
"""Fetches what a cluster run made: the models, the chosen one, the report, and the records that say how.

The run's records lead there, not the cluster: from the choice's own record back to those of what it was made of, also
where a step took an earlier run's result. The output folder is like a local run's, with the records below OUT/pipeline
as they lie below the run's folder, and those of an earlier run beside it, so that lineage and verify report here as
well (--at OUT). Images and the teacher itself stay where they are.
"""

import hashlib
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from learn2compress.lineage.queries.trace import MODEL_SET
from learn2compress.lineage.records.output_record import record_output_folder
from learn2compress.pipeline.output.folder import claim_output
from learn2compress.report.assembly import (
    REPORTED,
    TRAINED,
    assemble_report,
    part_of,
    read_thumbnails,
    write_report,
)
from learn2compress.schemas.config import Config
from learn2compress.schemas.config.reading.former_names import use_current_parameters
from learn2compress.schemas.errors import ClusterError, OutputError
from learn2compress.schemas.files.inside import path_inside
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.manifests import MANIFEST
from learn2compress.schemas.provenance import SUFFIX, Output, Statement, parse_statement
from learn2compress.schemas.reports import Report
from learn2compress.storage import object_store

# Of these the whole folder is wanted, of others what describes them.
_WHOLE = ("Quantizer.models", "TFLiteEvaluator.evaluation", "StudentSelector.selection", "StudentSelector.model")


def fetch_run(root: str, run: str, output: Path) -> tuple[Report, Path]:
    """Fetch a run.

    Args:
        root: The pipeline root that the run was given.
        run: Its id.
        output: The folder to make.

    Returns:
        The report, and the path of the chosen model.

    Raises:
        ClusterError: The run has left no choice, or a file cannot be read.
        OutputError: The output folder holds something else.
    """
    home = _find_home(root, run)
    records = _walk(home, run)
    claim_output(output, records["StudentSelector"].pipeline)
    outputs = {f"{statement.node}.{made.key}" for statement in records.values() for made in statement.outputs}
    whole = {part_of(part, outputs) for part in _WHOLE}
    needed = [part_of(part, outputs) for part in REPORTED]
    folders = {}
    for statement in records.values():
        folder = path_inside(output, "pipeline" if statement.run == run else statement.run)
        place = f"{home}/{statement.run}"
        _save(path_inside(folder, statement.path), object_store.read(f"{place}/{statement.path}"))
        for made in statement.outputs:
            key = f"{statement.node}.{made.key}"
            # What a Quantizer of one student says of its files is wanted as well.
            if key in whole or key in needed or key in TRAINED or made.type == MODEL_SET:
                folders[key] = _bring(place, made, folder, key in whole)
    missing = sorted({*needed, *whole} - set(folders))
    if missing:
        raise ClusterError(f"the records of run {run} must lead to every artifact; none leads to {missing[0]}.")
    selected = _collect(folders, output)
    report = assemble_report(_config_of(records.values()), folders)
    write_report(output, report, read_thumbnails(folders["TFLiteEvaluator.evaluation"]))
    record_output_folder(output, folders.values())
    return report, selected


def _find_home(root: str, run: str) -> str:
    """The pipeline's folder: the one below the root that holds the run's."""
    found = object_store.match(f"{root}/*/{run}")
    if len(found) != 1:
        raise ClusterError(
            f"run {run} must have left one folder of artifacts below {root}; there are {len(found)}. Check --root."
        )
    return found[0].rsplit("/", 1)[0]


def _walk(home: str, run: str) -> dict[str, Statement]:
    """The records that led to the run's choice, by node; the nearest where a node has several."""
    paths = [url.removeprefix(f"{home}/") for url in object_store.find(f"{home}/{run}") if url.endswith(SUFFIX)]
    start = [path for path in paths if path.startswith(f"{run}/StudentSelector/")]
    if not start:
        done = ", ".join(sorted({path.split("/")[1] for path in paths})) or "none"
        raise ClusterError(f"run {run} must have chosen a model to be fetched; it has not. Finished nodes: {done}.")
    records: dict[str, Statement] = {}
    ahead: list[tuple[str, str | None]] = [(start[-1], None)]
    while ahead:
        path, sha256 = ahead.pop(0)
        raw = object_store.read(f"{home}/{path}")
        if sha256 is not None and hashlib.sha256(raw).hexdigest() != sha256:
            raise ClusterError(f"record {home}/{path} must be as it was when it was read; it has been changed.")
        statement = parse_statement(raw, path)
        if statement.node in records:
            continue
        records[statement.node] = statement
        ahead += [
            (posixpath.normpath(f"{statement.run}/{one.record}"), one.record_sha256)
            for one in statement.inputs
            if one.record
        ]
    return records


def _bring(place: str, made: Output, root: Path, whole: bool) -> Path:
    """Downloads an artifact, or only its description, and checks each file against the record."""
    folder = path_inside(root, made.uri)
    for name, file in made.files.items():
        if not whole and name != MANIFEST:
            continue
        content = object_store.read(f"{place}/{made.uri}/{name}")
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise ClusterError(
                f"{place}/{made.uri}/{name} must have the SHA-256 {file.sha256[:16]}… of its record; it was changed."
            )
        _save(path_inside(folder, name) if name else folder, content)
    return folder


def _save(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise OutputError(f"{path} must be writable; {error.strerror}. Choose another folder.") from error


def _collect(folders: dict[str, Path], output: Path) -> Path:
    """Copies the models to where a local run leaves them."""
    for file in sorted(folders[part_of("Quantizer.models", folders)].glob("*.tflite")):
        _save(output / "models" / file.name, file.read_bytes())
    chosen = sorted(folders["StudentSelector.model"].rglob("*.tflite"))
    if len(chosen) != 1:
        raise ClusterError(f"the chosen model must be one .tflite file; the run's record lists {len(chosen)}.")
    _save(output / "selected.tflite", chosen[0].read_bytes())
    return output / "selected.tflite"


def _config_of(records: Iterable[Statement]) -> dict[str, Any]:
    """The configuration, as far as nodes' parameters contain it: `distill_epochs` is `epochs` of section distill."""
    config: dict[str, Any] = {}
    for statement in records:
        for name, value in use_current_parameters(statement.parameters).items():
            section, _, field = name.partition("_")
            described = Config.model_fields.get(section)
            if described is not None and field in getattr(described.annotation, "model_fields", ()):
                config.setdefault(section, {})[field] = value
    return config
