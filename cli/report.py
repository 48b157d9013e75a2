# SPDX-License-Identifier: Apache-2.0
"""`learn2compress report`: shows the result of a run again, or compares several on a page.

Exit status: 0 shown or written; 2 a folder holds no finished run, or the page cannot be written.
"""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    outputs: list[Path] = typer.Argument(..., help="Output folders of finished runs."),
    compare: bool = typer.Option(False, "--compare", help="Write a page that compares the runs with the first one."),
    page: Path = typer.Option(Path("comparison.html"), "--output", "-o", help="The page to write."),
) -> None:
    """Show the results of finished runs; with --compare, write a page that compares them."""
    from learn2compress.api import results

    if compare:
        typer.echo(f"Wrote {results.compare(outputs, page).path}.")
        return
    for output in outputs:
        result = results.open_result(output)
        typer.echo(f"{result.models!r}\nChosen: {result.data.choice.chosen or 'none'}. Report: {result.report.path}")
