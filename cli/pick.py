# SPDX-License-Identifier: Apache-2.0
"""`learn2compress pick`: chooses again from what a run has measured.

Exit status: 0 chosen; 2 the folder or an option is wrong; 3 nothing satisfies the limits. Then everything stays as
it was.
"""

import os
from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("pick")(pick)


def pick(
    output: Path = typer.Argument(..., help="Output folder of a finished run."),
    max_size: str | None = typer.Option(None, help="At most so many bytes: 60KB, 1.5MB, 64KiB."),
    max_latency_ms: str | None = typer.Option(None, help="At most so many milliseconds."),
    max_macs: str | None = typer.Option(None, help="At most so many multiply-accumulates: 2M."),
    min_accuracy: str | None = typer.Option(None, help="At least this share of the validation images: 0.9."),
    max_accuracy_drop: str | None = typer.Option(None, help="At most so far below the teacher: 0.02."),
    objective: str = typer.Option("accuracy", help="What is best within the limits: accuracy, size, latency, knee."),
    metadata: str | None = typer.Option(None, help="Address of the metadata store, if it is not OUT/metadata.db."),
) -> None:
    """Choose another of the measured files, under other limits. Trains nothing.

    Replaces OUT/selected.tflite, the report and OUT/bundle.zip, and records the choice. Limits that are not given do
    not hold.
    """
    from learn2compress.cli.options import checked
    from learn2compress.cli.screen import quiet_output
    from learn2compress.pipeline.picking import pick as pick_again
    from learn2compress.schemas.config import SelectConfig

    select = checked(
        SelectConfig,
        {
            "max_size": max_size,
            "max_latency_ms": max_latency_ms,
            "max_macs": max_macs,
            "min_accuracy": min_accuracy,
            "max_accuracy_drop": max_accuracy_drop,
            "objective": objective,
        },
    )
    # The runtime, which computes the golden vectors, announces itself on the standard error.
    with quiet_output(Path(os.devnull)):
        picked = pick_again(output, select, metadata)
    choice = picked.report.choice
    for verdict in choice.verdicts:
        typer.echo(f"{verdict.status:>10}  {verdict.candidate:<18}  {verdict.reason}")
    typer.echo(f"\n{choice.chosen} is now {picked.selected}; the report is {output / 'report.html'}.")
    if picked.bundle:
        typer.echo(f"The app bundle is {picked.bundle}.")
    else:
        typer.echo("There is no app bundle: the test images are not below this folder.")
