# SPDX-License-Identifier: Apache-2.0
"""`learn2compress replay`: repeats the recorded steps of a file, and compares bytes and figures.

Exit status: 0 the figures agree within the tolerance; 2 usage error; 3 no record lists the file; 4 tampered;
5 incomplete; 6 the figures differ by more than the tolerance.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from learn2compress.cli.lineage.output import AT, JSON, STATUSES, graph_for, new_console, print_report, show_problems

if TYPE_CHECKING:
    from rich.console import Console

    from learn2compress.lineage.graph import Graph
    from learn2compress.schemas.lineage import LineageReport, ReplayReport

_NOT_REPRODUCED = 6


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay", epilog=f"{STATUSES} 6 the figures differ by more than the tolerance.")(replay)


def replay(
    file: Path = typer.Argument(..., help="A .tflite file; its name does not matter."),
    output: Path = typer.Option(..., "--output", "-o", help="New folder for the run."),
    at: str | None = AT,
    tolerance: float = typer.Option(0.02, min=0, help="Largest allowed difference of an accuracy, as a fraction."),
    teacher: Path | None = typer.Option(None, help="Path of the teacher, if it was moved."),
    data: str | None = typer.Option(None, help="Path of the data, if they were moved."),
    trust: bool = typer.Option(False, "--trust", help="Run a module of the records, and load any SavedModel."),
    as_json: bool = JSON,
) -> int:
    """Make a file again by its recorded steps, and compare the result with the original.

    On the same machine with the same packages and seed the bytes are equal;
    otherwise the first step that is not deterministic is named.

    If the records hold a Python module (students.module), the command shows it
    and asks before running it. Records that were changed are refused.
    """
    from learn2compress.lineage.queries.trace import lineage_of_file
    from learn2compress.schemas.errors import LineageError, OutputError
    from learn2compress.schemas.lineage import EXIT_STATUS

    if not file.is_file():
        raise LineageError(f"{file} must be a file; it does not exist. Check the path.")
    if (output / "pipeline").exists():
        raise OutputError(f"{output} must be a new folder; it holds a run already. Choose another.")
    graph = graph_for(at, file)
    report = lineage_of_file(graph, file, max_chains=1)
    if report.status == "unknown":
        typer.echo(f"learn2compress: no record at {report.location} lists the bytes of {file}.", err=True)
        return EXIT_STATUS[report.status]
    if report.status == "tampered":
        show_problems(new_console(sys.stderr), report.problems)
        typer.echo(f"learn2compress: the records behind {file} were changed; they are not replayed.", err=True)
        return EXIT_STATUS[report.status]
    if not trust:
        _ask_to_run_module(graph, report)
    compared = _run(graph, report, output.resolve(), tolerance, teacher, data, trust, as_json)
    status = print_report(compared, as_json, lambda console: _print(console, compared))
    return status or (0 if compared.within_tolerance else _NOT_REPRODUCED)


def _ask_to_run_module(graph: "Graph", report: "LineageReport") -> None:
    """Show the module that the records hold, if they do, and whose it is; raise unless the user agrees to run it."""
    from learn2compress.lineage.records.signing import envelope_path
    from learn2compress.pipeline.replay import recorded_module
    from learn2compress.schemas.errors import LineageError

    source = recorded_module(graph, report)
    if source is None:
        return
    chain = report.chains[0]
    record = next(step.record for step in chain.steps if step.parameters.get("module_text"))
    signed = "signed" if graph.home.exists(envelope_path(record)) else "not signed"
    whose = f"pipeline {chain.pipeline!r}, record {graph.home.join(record)}{_owner_of(graph, record)}, {signed}"
    if not sys.stdin.isatty():
        raise LineageError(
            f"the Python module {source.name!r} of {whose}, must be trusted to be run. Read module_text in that "
            "record, then add --trust."
        )
    typer.echo(source.text, err=True)
    typer.echo(f"This module, {source.name!r} (SHA-256 {source.sha256[:16]}…), is of {whose}.", err=True)
    typer.confirm("Run it?", abort=True, err=True)


def _owner_of(graph: "Graph", record: str) -> str:
    """Write who owns a record's file, where a local file system tells."""
    if graph.home.local is None:
        return ""
    try:
        return f" (file of {(graph.home.local / record).owner()})"
    except (OSError, KeyError):
        return ""


def _run(
    graph: "Graph",
    report: "LineageReport",
    output: Path,
    tolerance: float,
    teacher: Path | None,
    data: str | None,
    trust: bool,
    quiet: bool,
) -> "ReplayReport":
    from learn2compress.cli.screen import Screen, quiet_output
    from learn2compress.lineage.graph import open_graph
    from learn2compress.pipeline.environment import prepare_environment
    from learn2compress.pipeline.output.folder import claim_output
    from learn2compress.pipeline.output.lock import hold_output
    from learn2compress.pipeline.replay import compare_replay, replay_config

    claim_output(output, report.chains[0].pipeline)
    prepare_environment()
    with hold_output(output, "replay"), Screen() as screen, quiet_output(output / "run.log"):
        from learn2compress.pipeline.local_run import run_pipeline
        from learn2compress.schemas.progress import listening

        config, limit = replay_config(graph, report, output, teacher, data, trust)
        if quiet:
            run_pipeline(config, output, limit)
        else:
            with listening(screen.show_progress):
                run_pipeline(config, output, limit, screen.show_node)
        return compare_replay(graph, report, open_graph(output), output, tolerance)


def _print(console: "Console", report: "ReplayReport") -> None:
    from rich.table import Table

    if report.same_bytes:
        console.print("The new file is identical, byte for byte.", markup=False)
    else:
        first = report.first_different_step or "its own"
        console.print(f"The new file has other bytes; the first step that differs is {first}.", markup=False)
    if report.differing_steps:
        console.print(f"Steps with other outputs: {', '.join(report.differing_steps)}", markup=False)
    for one in report.environment:
        console.print(f"Changed {one.what} {one.name}: {one.b}, was {one.a}", markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("figure", "recorded", "now", "within"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for figure in report.figures:
        now = "–" if figure.replayed is None else f"{figure.replayed:.6g}"
        table.add_row(figure.figure, f"{figure.recorded:.6g}", now, "yes" if figure.within else "NO")
    console.print(table)
