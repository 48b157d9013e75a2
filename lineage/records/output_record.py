# SPDX-License-Identifier: Apache-2.0
"""The record of what a run leaves for its user beside the pipeline root: OUT/models, OUT/selected.tflite, the report,
the bundle, a teacher that was trained along.

They are copies of artifacts, or made of them, and no execution in ML Metadata. A record of their own makes a changed
one known, and names the artifacts behind them. It is written anew whenever they are, so that it is always the latest.
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
}
TYPE = "learn2compress.Output"
UNSTORED = "not_in_ml_metadata"
# What another choice takes the place of.
_CHOICE_TYPES = {"learn2compress.Selection", "Model", "ModelBlessing", "PushedModel"}


def record_output_folder(output: str | Path, sources: Iterable[str | Path]) -> str:
    """Record the files of an output folder.

    Args:
        output: OUT; its pipeline root is OUT/pipeline.
        sources: The folders of the artifacts that the files were taken or made from.

    Returns:
        Where the record lies.

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
    """Record the files of an output folder again, made of the same artifacts as before but for the choice.

    Args:
        output: OUT.
        selection: The folder of the Selection that now counts.

    Returns:
        Where the record lies.

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
