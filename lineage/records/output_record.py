# SPDX-License-Identifier: Apache-2.0
"""Writes the record of a run's files outside the pipeline root: OUT/models, OUT/selected.tflite, the report, bundle,
and a jointly trained teacher.

These files are copies of artifacts or derived from them, and have no execution in ML Metadata. With a record of their
own, a changed file is detected, and the artifacts behind each file are known. The record is replaced whenever the files
are, so that it always describes the latest ones.
"""

import time
from collections.abc import Iterable
from pathlib import Path

from learn2compress.lineage.graph import Graph
from learn2compress.lineage.index import OutputEntry
from learn2compress.lineage.records.provenance import describe_output, record_of, save_record
from learn2compress.schemas.provenance import Input, timestamp
from learn2compress.storage.location import open_location

NODE = "Output"
TRAINED_TEACHER = "trained_teacher"
FILES = {
    "models": "models",
    "selected": "selected.tflite",
    "report_json": "report.json",
    "report_html": "report.html",
    "bundle": "bundle.zip",
    "trained_teacher": TRAINED_TEACHER,
    "config": "config.yaml",  # if the run was started without a configuration file
}
TYPE = "learn2compress.Output"
UNSTORED = "not_in_ml_metadata"
# Types of the artifacts that a new choice replaces.
_CHOICE_TYPES = {"learn2compress.Selection", "Model", "ModelBlessing", "PushedModel"}


def record_output_folder(output: str | Path, sources: Iterable[str | Path]) -> str:
    """Record the files of an output folder.

    Args:
        output: Output folder; its pipeline root is `output/pipeline`.
        sources: Folders of the artifacts that the files were copied or derived from.

    Returns:
        Path of the record.

    Raises:
        LineageError: There are no records yet, or a file cannot be read.
    """
    root = open_location(Path(output) / "pipeline")
    graph = Graph(root)
    entries = {entry.id: entry for entry in graph.index.entries()}
    inputs = []
    for source in sources:
        made = graph.index.outputs_at(root.relative(str(Path(source).absolute())))
        fresh = [one for one in made if not entries[one.record].cached]
        if fresh:
            entry = entries[fresh[-1].record]
            inputs.append(_input(fresh[-1], entry.path, entry.sha256))
    latest = max((entry for entry in entries.values() if entry.node != NODE), key=lambda entry: entry.finished or "")
    outputs = [
        describe_output(root, f"../{name}", key, TYPE) for key, name in FILES.items() if (Path(output) / name).exists()
    ]
    now = timestamp(int(time.time() * 1000))
    statement = record_of(
        NODE,
        inputs,
        outputs,
        {},
        pipeline=latest.pipeline,
        run=latest.run,
        execution="latest",
        started=now,
        finished=now,
        internal={UNSTORED: True},
    )
    return save_record(root, statement)


def record_another_choice(output: str | Path, selection: str | Path) -> str:
    """Record the files of an output folder after a new choice, with the other source artifacts unchanged.

    Args:
        output: Output folder.
        selection: Folder of the new Selection artifact.

    Returns:
        Path of the record.

    Raises:
        LineageError: There are no records yet, or a file cannot be read.
    """
    root = open_location(Path(output) / "pipeline")
    index = Graph(root).index
    before = [entry for entry in index.entries() if entry.node == NODE]
    kept = [one.uri for entry in before for one in index.inputs_of(entry.id) if one.type not in _CHOICE_TYPES]
    return record_output_folder(output, [*(root.join(uri) for uri in kept), selection])


def _input(output: OutputEntry, record: str, sha256: str) -> Input:
    return Input(output.name, output.uri, output.type, output.digest, record=record, record_sha256=sha256)
