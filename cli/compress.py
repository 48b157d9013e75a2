# SPDX-License-Identifier: Apache-2.0
"""`learn2compress compress`: compresses a classifier without a configuration file.

Exit status: 0 success; 2 user error; 3 no candidate satisfies the limits, or the
chosen one is near chance.
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
    QUIET,
    VERBOSE,
    detail_of,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compress")(compress)


def compress(
    teacher: Path = typer.Argument(..., help="SavedModel folder, .keras or .h5 file."),
    data: str = typer.Argument(..., help="Image folder, .npz, .csv or TFRecord files, or the word digits."),
    output: Path = typer.Option(
        Path("out"), "--output", "-o", help="Folder for models, report, metadata; created if missing."
    ),
    max_size: str | None = MAX_SIZE,
    max_latency_ms: str | None = MAX_LATENCY_MS,
    max_macs: str | None = MAX_MACS,
    min_accuracy: str | None = MIN_ACCURACY,
    max_accuracy_drop: str | None = MAX_ACCURACY_DROP,
    objective: str | None = OBJECTIVE,
    limit: int | None = typer.Option(None, min=1, help="Use at most this many examples of each split of the data."),
    settings: list[str] = typer.Option([], "--set", help="Set a field: --set distill.epochs=3 (repeatable)."),
    inspect: bool = typer.Option(
        True, "--inspect/--no-inspect", help="Find the scaling of pixels that the teacher expects, on some images."
    ),
    allow_near_chance: bool = typer.Option(
        False, "--allow-near-chance", help="Exit with status 0 even if the accuracy of the chosen file is near chance."
    ),
    quiet: bool = QUIET,
    verbose: bool = VERBOSE,
) -> int:
    """Compress a classifier without a configuration file.

    The configuration that was used is written to OUT/config.yaml and printed in
    three lines. After an interruption, run the same command again to resume.

    The exit status is 3 if no candidate satisfies the limits, or if the accuracy of
    the chosen one is near chance (unless --allow-near-chance is given).
    """
    from learn2compress.api import running
    from learn2compress.cli.interruption import resumable

    detail = detail_of(quiet, verbose)
    with resumable():
        result = running.compress(
            teacher,
            data,
            output,
            max_size=max_size,
            max_latency_ms=max_latency_ms,
            max_macs=max_macs,
            min_accuracy=min_accuracy,
            max_accuracy_drop=max_accuracy_drop,
            objective=objective,
            limit=limit,
            settings=settings,
            inspect=inspect,
            detail=detail,
        )
    if quiet:
        typer.echo(result.selected)
    return 3 if result.is_near_chance and not allow_near_chance else 0
