# SPDX-License-Identifier: Apache-2.0
"""`learn2compress bom`: writes a CycloneDX ML-BOM of a model.

Exit status: 0 the chain behind the model is whole; 2 usage error; 3 no record lists the file; 4 tampered; 5 incomplete.
"""

import sys
from pathlib import Path

import typer

from learn2compress.cli.lineage.output import AT, STATUSES, new_console, show_problems


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bom", epilog=STATUSES)(bom)


def bom(
    file: Path = typer.Argument(..., help="A .tflite file; its name does not matter."),
    at: str | None = AT,
    output: Path | None = typer.Option(None, "--output", "-o", help="Write to this file instead of printing."),
) -> int:
    """Write a bill of materials of a model: teacher, data, packages, parameters and figures, as CycloneDX 1.6 JSON."""
    from learn2compress.api import auditing
    from learn2compress.schemas.errors import LineageError
    from learn2compress.schemas.files.whole import write_named
    from learn2compress.schemas.lineage import EXIT_STATUS

    text, report = auditing.bill_of_materials(file, at)
    if report.status == "unknown":
        show_problems(new_console(sys.stderr), report.problems)
        typer.echo(f"learn2compress: no record at {report.location} lists the bytes of {file}.", err=True)
        return EXIT_STATUS[report.status]
    if output is None:
        typer.echo(text, nl=False)
    else:
        try:
            write_named(output, text)
        except OSError as error:
            raise LineageError(f"{output} must be a writable file; {error.strerror}.") from error
    show_problems(new_console(sys.stderr), report.problems)
    return EXIT_STATUS[report.status]
