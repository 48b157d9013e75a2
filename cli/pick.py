# SPDX-License-Identifier: Apache-2.0
"""`learn2compress pick`: chooses another file from those that a run has measured.

Exit status: 0 chosen; 2 the folder or an option is invalid; 3 no file satisfies the limits, and nothing was changed.
"""

import os
from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("pick")(pick)


def pick(
    output: Path = typer.Argument(..., help="Output folder of a finished run."),
    max_size: str | None = typer.Option(None, help="Largest file size in bytes, such as 60KB, 1.5MB or 64KiB."),
    max_latency_ms: str | None = typer.Option(None, help="Largest latency in milliseconds."),
    max_macs: str | None = typer.Option(None, help="Largest number of multiply-accumulates, such as 2M."),
    min_accuracy: str | None = typer.Option(None, help="Lowest accuracy on the validation images, such as 0.9."),
    max_accuracy_drop: str | None = typer.Option(None, help="Largest drop from the teacher's accuracy, such as 0.02."),
    objective: str = typer.Option(
        "accuracy", help="Criterion within the limits: accuracy, accuracy_strict, size, latency, knee."
    ),
    metadata: str | None = typer.Option(None, help="Address of the metadata store, if it is not OUT/metadata.db."),
) -> None:
    """Choose another of the measured files under other limits, without training.

    Replaces OUT/selected.tflite, the report and OUT/bundle.zip, and records the
    choice. Limits that are not given are not applied, even if the configuration
    of the run has them.
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
    # The runtime, which computes the golden vectors, prints a banner on standard error.
    with quiet_output(Path(os.devnull)):
        picked = pick_again(output, select, metadata)
    choice = picked.report.choice
    for verdict in choice.verdicts:
        typer.echo(f"{verdict.status:>10}  {verdict.candidate:<18}  {verdict.reason}")
    typer.echo(f"\n{choice.chosen} was written to {picked.selected}; the report is {output / 'report.html'}.")
    if picked.bundle:
        typer.echo(f"The app bundle is {picked.bundle}.")
    else:
        typer.echo("No app bundle was written, because the test images are not below this folder.")
