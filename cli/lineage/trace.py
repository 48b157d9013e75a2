# SPDX-License-Identifier: Apache-2.0
"""`learn2compress lineage`: from a file's bytes alone to the teacher, the data and every step.

Exit status: 0 the chain is whole; 2 usage; 3 no record knows the bytes; 4 tampered; 5 incomplete.
"""

from enum import Enum
from pathlib import Path

import typer

from learn2compress.cli.lineage.answers import AT, JSON, METADATA_GRPC, STATUSES, answer, cluster_for, graph_for


class Format(str, Enum):
    """How a lineage is written."""

    tree = "tree"
    json = "json"
    mermaid = "mermaid"
    html = "html"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("lineage", epilog=STATUSES)(lineage)


def lineage(
    file: Path = typer.Argument(..., help="A .tflite file, under whatever name; or any other file of a run."),
    at: str | None = AT,
    metadata_grpc: str | None = METADATA_GRPC,
    form: Format = typer.Option(Format.tree, "--format", help="How to write it."),
    as_json: bool = JSON,
    chains: int = typer.Option(10, min=1, help="Where several runs made the same bytes, show so many, newest first."),
) -> int:
    """Tell from which teacher and data a file was made, by which steps, and how it fared.

    The file's bytes decide: it may have been renamed, its run's output folder moved, its database deleted.
    """
    from learn2compress.lineage.queries.trace import lineage_of_file
    from learn2compress.schemas.errors import LineageError
    from learn2compress.schemas.lineage import EXIT_STATUS

    if not file.is_file():
        raise LineageError(f"{file} must be a file; there is none of that name.")
    cluster = cluster_for(metadata_grpc)
    graph = cluster.open_graph(at) if cluster else graph_for(at, file)
    report = lineage_of_file(graph, file, chains)
    report = cluster.judge(report, graph) if cluster else report
    if form is Format.mermaid:
        from learn2compress.cli.lineage.drawing import draw, to_mermaid

        typer.echo(to_mermaid(draw(report)), nl=False)
        return EXIT_STATUS[report.status]
    if form is Format.html:
        from learn2compress.cli.lineage.page import to_page

        typer.echo(to_page(report), nl=False)
        return EXIT_STATUS[report.status]

    def render(console) -> None:
        from learn2compress.cli.lineage.tree import print_tree

        print_tree(console, report)

    return answer(report, as_json or form is Format.json, render)
