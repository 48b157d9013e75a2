# SPDX-License-Identifier: Apache-2.0
"""`learn2compress replay`: repeats the recorded steps of a file, and compares bytes and figures.

Exit status: 0 the figures agree within the tolerance; 2 usage error; 3 no record lists the file; 4 tampered;
5 incomplete; 6 the figures differ by more than the tolerance.
"""

import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from learn2compress.cli.lineage.output import AT, JSON, STATUSES, new_console, print_report, show_problems

if TYPE_CHECKING:
    from rich.console import Console

    from learn2compress.api.running import Detail
    from learn2compress.schemas.lineage import ReplayReport
    from learn2compress.schemas.module_source import ModuleSource

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
    from learn2compress.api import replaying
    from learn2compress.schemas.errors import TamperedError

    confirm = _confirm if sys.stdin.isatty() else None
    detail: Detail = "quiet" if as_json else "normal"
    try:
        compared = replaying.replay(
            file, output, at, tolerance=tolerance, teacher=teacher, data=data, trust=trust, confirm=confirm,
            detail=detail,
        )  # fmt: skip
    except TamperedError as error:
        show_problems(new_console(sys.stderr), error.problems)
        raise
    status = print_report(compared, as_json, lambda console: _print(console, compared))
    return status or (0 if compared.within_tolerance else _NOT_REPRODUCED)


def _confirm(source: "ModuleSource", whose: str) -> bool:
    """Show a recorded module and whose it is, and ask whether to run it."""
    typer.echo(_visible(source.text), err=True)
    typer.echo(f"This module, {source.name!r} (SHA-256 {source.sha256[:16]}…), is of {whose}.", err=True)
    return typer.confirm("Run it?", abort=True, err=True)


def _visible(text: str) -> str:
    """Write out the signs by which a text could look different from what Python runs: those that move the cursor, and
    those that change the direction of writing.
    """
    hidden = ("Cc", "Cf", "Zl", "Zp")
    return "".join(
        sign if sign in "\n\t" or unicodedata.category(sign) not in hidden else ascii(sign)[1:-1] for sign in text
    )


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
