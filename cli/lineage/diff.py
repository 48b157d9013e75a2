# SPDX-License-Identifier: Apache-2.0
"""`learn2compress diff`: compares the histories, parameters, data and figures of two models.

Exit status: 0 compared; 2 usage error; 3 no record lists one of the files; 4 tampered; 5 incomplete.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from learn2compress.cli.lineage.output import AT, JSON, STATUSES, print_report

if TYPE_CHECKING:
    from rich.console import Console

    from learn2compress.schemas.lineage import DiffReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("diff", epilog=STATUSES)(diff)


def diff(
    a: Path = typer.Argument(..., help="A file of a run."),
    b: Path = typer.Argument(..., help="Another file of a run."),
    at: str | None = AT,
    at_b: str | None = typer.Option(None, "--at-b", help="Location of the second file's records, if it differs."),
    as_json: bool = JSON,
) -> int:
    """Compare the latest executions that made each of two files."""
    from learn2compress.api import auditing

    report = auditing.diff(a, b, at, at_b)
    return print_report(report, as_json, lambda console: _print(console, report))


def _print(console: "Console", report: "DiffReport") -> None:
    from rich.table import Table

    if report.status == "unknown":
        console.print("No record lists one of the two files.", markup=False)
        return
    if report.same_bytes:
        console.print("Both files have the same bytes.", markup=False)
    if not report.differences:
        console.print("Their histories do not differ.", markup=False)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("node")
    table.add_column("what")
    for column in ("name", Path(report.a).name, Path(report.b).name):
        table.add_column(column, overflow="fold")
    for one in report.differences:
        table.add_row(one.node, one.what, one.name, _short(one.a), _short(one.b))
    console.print(table)


def _short(value: Any) -> str:
    if value is None:
        return "–"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if "\n" in text:
        return f"text with {len(text.splitlines()):,} lines"
    return f"{text[:16]}…" if len(text) == 64 else text
