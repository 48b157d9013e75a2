# SPDX-License-Identifier: Apache-2.0
"""Repeats the recorded steps of a file, and compares bytes and figures."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from learn2compress.api.auditing import Place, graph_for
from learn2compress.api.options import is_command_line
from learn2compress.api.terminal import Detail, Screen, quiet_output
from learn2compress.schemas.errors import LineageError, OutputError, TamperedError, UnknownFileError

if TYPE_CHECKING:
    from learn2compress.lineage.graph import Graph
    from learn2compress.schemas.lineage import LineageReport, ReplayReport
    from learn2compress.schemas.module_source import ModuleSource

Confirm = Callable[["ModuleSource", str], bool]
"""Receives a recorded module and a description of whose it is; returns whether to run it."""


def replay(
    file: str | Path,
    output: str | Path,
    at: Place = None,
    *,
    tolerance: float = 0.02,
    teacher: str | Path | None = None,
    data: str | None = None,
    trust: bool = False,
    confirm: Confirm | None = None,
    detail: Detail = "normal",
) -> "ReplayReport":
    """Make a file again by its recorded steps, and compare the result with the original.

    On the same machine with the same packages and seed the bytes are equal; otherwise the first step that is not
    deterministic is named.

    Args:
        file: A .tflite file; its name does not matter.
        output: New folder for the run.
        at: Location of the records; by default near the file, or here.
        tolerance: Largest allowed difference of an accuracy, as a fraction.
        teacher: Path of the teacher, if it was moved.
        data: Path of the data, if they were moved.
        trust: Run a module of the records, and load any SavedModel.
        confirm: Decides whether a recorded module may be run, if `trust` is not set.
        detail: What is printed: `quiet`, `normal` or `verbose`. The log in the output folder holds everything.

    Returns:
        The comparison; `within_tolerance` says whether the figures agree.

    Raises:
        UnknownFileError: No record lists the file.
        TamperedError: The records were changed; they are not replayed.
        LineageError: The file or the records cannot be read, or a recorded module is not trusted.
        OutputError: The folder holds a run already, or cannot be written.
    """
    from learn2compress.lineage.queries.trace import lineage_of_file

    path, folder = Path(file), Path(output)
    if not path.is_file():
        raise LineageError(f"{file} must be a file; it does not exist. Check the path.")
    if (folder / "pipeline").exists():
        raise OutputError(f"{output} must be a new folder; it holds a run already. Choose another.")
    graph = graph_for(at, path)
    report = lineage_of_file(graph, path, max_chains=1)
    if report.status == "unknown":
        raise UnknownFileError(f"no record at {report.location} lists the bytes of {file}.")
    if report.status == "tampered":
        raise TamperedError(f"the records behind {file} were changed; they are not replayed.", report.problems)
    if not trust:
        _check_module(graph, report, confirm)
    return _replay(graph, report, folder.resolve(), tolerance, teacher, data, trust, detail)


def _check_module(graph: "Graph", report: "LineageReport", confirm: Confirm | None) -> None:
    """Refuse to run a module that the records hold, unless it is confirmed."""
    from learn2compress.lineage.records.signing import envelope_path
    from learn2compress.pipeline.replay import recorded_module

    source = recorded_module(graph, report)
    if source is None:
        return
    chain = report.chains[0]
    record = next(step.record for step in chain.steps if step.parameters.get("module_text"))
    signed = "signed" if graph.home.exists(envelope_path(record)) else "not signed"
    whose = f"pipeline {chain.pipeline!r}, record {graph.home.join(record)}{_owner_of(graph, record)}, {signed}"
    if confirm is None or not confirm(source, whose):
        remedy = "add --trust" if is_command_line() else "pass trust=True"
        raise LineageError(
            f"the Python module {source.name!r} of {whose}, must be trusted to be run. Read module_text in that "
            f"record, then {remedy}."
        )


def _owner_of(graph: "Graph", record: str) -> str:
    """Write who owns a record's file, where a local file system tells."""
    if graph.home.local is None:
        return ""
    try:
        return f" (file of {(graph.home.local / record).owner()})"
    except (OSError, KeyError):
        return ""


def _replay(
    graph: "Graph",
    report: "LineageReport",
    output: Path,
    tolerance: float,
    teacher: str | Path | None,
    data: str | None,
    trust: bool,
    detail: Detail,
) -> "ReplayReport":
    from learn2compress.lineage.graph import open_graph
    from learn2compress.pipeline.environment import prepare_environment
    from learn2compress.pipeline.output.folder import claim_output
    from learn2compress.pipeline.output.lock import hold_output
    from learn2compress.pipeline.replay import compare_replay, replay_config

    claim_output(output, report.chains[0].pipeline)
    prepare_environment()
    with hold_output(output, "replay"), Screen(detail) as screen, quiet_output(output / "run.log") as log:
        from learn2compress.pipeline.local_run import run_pipeline
        from learn2compress.schemas.progress import listening

        moved = None if teacher is None else Path(teacher)
        config, limit = replay_config(graph, report, output, moved, data, trust)
        with screen.writing_to(log), listening(screen.show_progress):
            run_pipeline(config, output, limit, screen.show_node)
        return compare_replay(graph, report, open_graph(output), output, tolerance)
