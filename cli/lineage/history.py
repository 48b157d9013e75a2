# SPDX-License-Identifier: Apache-2.0
"""`learn2compress history`: the runs at a place as a table.

Exit status: 0 all records are readable; 2 usage; 4 some are not.
"""

from typing import TYPE_CHECKING

import typer

from learn2compress.cli.lineage.answers import JSON, STATUSES, answer, duration, graph_for, moment, percent

if TYPE_CHECKING:
    from rich.console import Console

    from learn2compress.schemas.lineage import HistoryReport


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("history", epilog=STATUSES)(history)


def history(
    location: str | None = typer.Argument(None, help="A folder or an fsspec URL. Default: here."),
    limit: int = typer.Option(30, min=1, help="Show so many runs, newest first; --json lists all."),
    as_json: bool = JSON,
) -> int:
    """List the runs: when, how long, how much came from the cache, what was chosen."""
    from learn2compress.lineage.queries.history import history_of

    report = history_of(graph_for(location))
    return answer(report, as_json, lambda console: _print(console, report, limit))


def _print(console: "Console", report: "HistoryReport", limit: int) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column, justify in (
        ("run", "left"), ("started", "left"), ("worked", "right"), ("nodes", "right"), ("cached", "right"),
        ("chosen", "left"), ("validation", "right"), ("test", "right"),
    ):  # fmt: skip
        table.add_column(column, justify=justify, overflow="fold")
    for view in report.runs[:limit]:
        table.add_row(
            view.run, moment(view.started), duration(view.seconds), str(view.executions), str(view.cached),
            view.chosen or "–", percent(view.validation_accuracy), percent(view.test_accuracy),
        )  # fmt: skip
    console.print(table)
    if len(report.runs) > limit:
        console.print(f"… and {len(report.runs) - limit} earlier runs")
