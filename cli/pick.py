# SPDX-License-Identifier: Apache-2.0
"""`learn2compress pick`: chooses another file from those that a run has measured.

Exit status: 0 chosen; 2 the folder or an option is invalid; 3 no file satisfies the limits, and nothing was changed.
"""

from pathlib import Path

import typer

from learn2compress.cli.options import (
    MAX_ACCURACY_DROP,
    MAX_LATENCY_MS,
    MAX_MACS,
    MAX_SIZE,
    MIN_ACCURACY,
    OBJECTIVE,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("pick")(pick)


def pick(
    output: Path = typer.Argument(..., help="Output folder of a finished run."),
    max_size: str | None = MAX_SIZE,
    max_latency_ms: str | None = MAX_LATENCY_MS,
    max_macs: str | None = MAX_MACS,
    min_accuracy: str | None = MIN_ACCURACY,
    max_accuracy_drop: str | None = MAX_ACCURACY_DROP,
    objective: str | None = OBJECTIVE,
    metadata: str | None = typer.Option(None, help="Address of the metadata store, if it is not OUT/metadata.db."),
) -> None:
    """Choose another of the measured files under other limits, without training.

    Replaces OUT/selected.tflite, the report and OUT/bundle.zip, and records the
    choice. Limits that are not given are not applied, even if the configuration
    of the run has them.
    """
    from learn2compress.api import results

    picked = results.pick(
        output,
        max_size=max_size,
        max_latency_ms=max_latency_ms,
        max_macs=max_macs,
        min_accuracy=min_accuracy,
        max_accuracy_drop=max_accuracy_drop,
        objective=objective,
        metadata=metadata,
    )
    choice = picked.data.choice
    for note in picked.data.notes:
        typer.echo(f"note: {note}", err=True)
    for verdict in choice.verdicts:
        typer.echo(f"{verdict.status:>10}  {verdict.candidate:<18}  {verdict.reason}")
    typer.echo(f"\n{choice.chosen} was written to {picked.selected}; the report is {picked.report.path}.")
    if picked.bundle:
        typer.echo(f"The app bundle is {picked.bundle}.")
    else:
        typer.echo("No app bundle was written, because the test images are not below this folder.")
