# SPDX-License-Identifier: Apache-2.0
"""`learn2compress rebuild-metadata`: rebuilds an ML Metadata database from the provenance records.

Exit status: 0 whole; 2 usage error; 4 some records are broken; 5 some are missing.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from learn2compress.cli.lineage.output import JSON, STATUSES, print_report

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rebuild-metadata", epilog=STATUSES)(rebuild_metadata)


def rebuild_metadata(
    location: str = typer.Argument(..., help="A folder or an fsspec URL."),
    to: Path = typer.Option(..., "--to", help="The SQLite file to create."),
    as_json: bool = JSON,
) -> int:
    """Rebuild an ML Metadata database from the provenance records, equal to the original one."""
    from learn2compress.api import auditing

    report = auditing.rebuild_metadata(location, to)

    def render(console: "Console") -> None:
        console.print(
            f"{report.database}: {report.executions:,} executions, {report.artifacts:,} artifacts, "
            f"{report.events:,} events, {report.contexts:,} contexts",
            markup=False,
        )

    return print_report(report, as_json, render)
