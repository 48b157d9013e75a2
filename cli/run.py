# SPDX-License-Identifier: Apache-2.0
"""`learn2compress run`: runs the whole pipeline, with progress on the screen and library output in OUT/run.log."""

from pathlib import Path

import typer

from learn2compress.cli.options import QUIET, VERBOSE, detail_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    config: Path = typer.Argument(..., help="The YAML configuration; `learn2compress init` writes one."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder for models, report, metadata; created if missing."),
    limit: int | None = typer.Option(None, min=1, help="Use at most this many examples of each split of the data."),
    settings: list[str] = typer.Option([], "--set", help="Override a field: --set distill.epochs=3 (repeatable)."),
    allow_near_chance: bool = typer.Option(
        False, "--allow-near-chance", help="Exit with status 0 even if the accuracy of the chosen file is near chance."
    ),
    quiet: bool = QUIET,
    verbose: bool = VERBOSE,
) -> int:
    """Turn a TensorFlow classifier into a family of small TensorFlow Lite models.

    After an interruption, run the same command again to resume: finished work is not repeated.

    With distill.strategy multi_worker, run the same command on every worker in
    TF_CONFIG; the chief runs the pipeline, and the others take part in training.

    The exit status is 3 if no candidate satisfies the limits, or if the accuracy of
    the chosen one is near chance (unless --allow-near-chance is given).
    """
    from learn2compress.api import running
    from learn2compress.cli.interruption import resumable
    from learn2compress.schemas.config import load_config

    detail = detail_of(quiet, verbose)
    if running.worker_index(load_config(config, settings)) is not None:
        running.take_part(config, output, settings=settings)
        return 0
    with resumable():
        result = running.run(config, output, settings=settings, limit=limit, detail=detail)
    if quiet:
        typer.echo(result.selected)
    return 3 if result.is_near_chance and not allow_near_chance else 0
