# SPDX-License-Identifier: Apache-2.0
"""`learn2compress lineage`: traces a file from its bytes to the teacher, the data and every step.

Exit status: 0 the chain is whole; 2 usage error; 3 no record lists the bytes; 4 tampered; 5 incomplete.
"""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from learn2compress.cli.lineage.output import AT, JSON, METADATA_GRPC, STATUSES, print_report

if TYPE_CHECKING:
    from rich.console import Console


class Format(str, Enum):
    """Output format of a lineage."""

    tree = "tree"
    json = "json"
    mermaid = "mermaid"
    html = "html"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("lineage", epilog=STATUSES)(lineage)


def lineage(
    file: Path = typer.Argument(..., help="A .tflite file, whatever its name, or any other file of a run."),
    at: str | None = AT,
    metadata_grpc: str | None = METADATA_GRPC,
    form: Format = typer.Option(Format.tree, "--format", help="Output format."),
    as_json: bool = JSON,
    chains: int = typer.Option(10, min=1, help="If several runs made the same bytes, show this many, newest first."),
) -> int:
    """Show the teacher, the data and the steps that a file was made from, and its measurements.

    Only the file's bytes matter: it may have been renamed, its output folder moved, and its database deleted.
    """
    from learn2compress.api import auditing
    from learn2compress.schemas.lineage import EXIT_STATUS

    report = auditing.trace(file, at, metadata_grpc=metadata_grpc, chains=chains)
    if form is Format.mermaid:
        from learn2compress.cli.lineage.drawing import draw, to_mermaid

        typer.echo(to_mermaid(draw(report)), nl=False)
        return EXIT_STATUS[report.status]
    if form is Format.html:
        from learn2compress.cli.lineage.page import to_page

        typer.echo(to_page(report), nl=False)
        return EXIT_STATUS[report.status]

    def render(console: "Console") -> None:
        from learn2compress.cli.lineage.tree import print_tree

        print_tree(console, report)

    return print_report(report, as_json or form is Format.json, render)
