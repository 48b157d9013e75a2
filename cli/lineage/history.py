# SPDX-License-Identifier: Apache-2.0
"""`learn2compress history`: lists the runs at a location in a table.

Exit status: 0 all records are readable; 2 usage error; 4 some are not.
"""

from typing import TYPE_CHECKING

import typer

from learn2compress.cli.lineage.output import JSON, STATUSES, duration, moment, percent, print_report

if TYPE_CHECKING:
    from rich.console import Console

    from learn2compress.schemas.lineage import HistoryReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("history", epilog=STATUSES)(history)


def history(
    location: str | None = typer.Argument(None, help="A folder or an fsspec URL. Default: the working directory."),
    limit: int = typer.Option(30, min=1, help="Show at most this many runs, newest first; --json lists all."),
    as_json: bool = JSON,
) -> int:
    """List the runs with their times, the number of cached steps, and the chosen model."""
    from learn2compress.api import auditing

    report = auditing.history(location)
    return print_report(report, as_json, lambda console: _print(console, report, limit))


def _print(console: "Console", report: "HistoryReport", limit: int) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("run", "started", "duration", "nodes", "cached", "chosen", "validation", "test"):
        is_text = column in ("run", "started", "chosen")
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for view in report.runs[:limit]:
        table.add_row(
            view.run, moment(view.started), duration(view.seconds), str(view.executions), str(view.cached),
            view.chosen or "–", percent(view.validation_accuracy), percent(view.test_accuracy),
        )  # fmt: skip
    console.print(table)
    if len(report.runs) > limit:
        console.print(f"… and {len(report.runs) - limit} earlier runs")
