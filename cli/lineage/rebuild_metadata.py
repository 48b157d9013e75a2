# SPDX-License-Identifier: Apache-2.0
"""`learn2compress rebuild-metadata`: an ML Metadata database made again from the provenance records.

Exit status: 0 whole; 2 usage; 4 some records are broken; 5 some are missing.
"""

from pathlib import Path

import typer

from learn2compress.cli.lineage.answers import JSON, STATUSES, answer, graph_for


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("rebuild-metadata", epilog=STATUSES)(rebuild_metadata)


def rebuild_metadata(
    location: str = typer.Argument(..., help="A folder or an fsspec URL."),
    to: Path = typer.Option(..., "--to", help="The SQLite file to make."),
    as_json: bool = JSON,
) -> int:
    """Make an ML Metadata database from the provenance records, equal to the one that was there."""
    from learn2compress.lineage.mlmd import rebuild

    report = rebuild.rebuild_metadata(graph_for(location), to)

    def render(console) -> None:
        console.print(
            f"{report.database}: {report.executions:,} executions, {report.artifacts:,} artifacts, "
            f"{report.events:,} events, {report.contexts:,} contexts",
            markup=False,
        )

    return answer(report, as_json, render)
