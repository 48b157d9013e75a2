# SPDX-License-Identifier: Apache-2.0
"""`learn2compress pick`: chooses another file from those that a run has measured.

Exit status: 0 chosen, or shown what could be; 2 the folder or an option is invalid; 3 no file satisfies the limits, and
nothing was changed.
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from learn2compress.cli.options import (
    MAX_ACCURACY_DROP,
    MAX_LATENCY_MS,
    MAX_MACS,
    MAX_SIZE,
    MIN_ACCURACY,
    OBJECTIVE,
)
from learn2compress.schemas.errors import ConfigError, SelectionError

if TYPE_CHECKING:
    from learn2compress.api.results import Result

_NONE = "none"
_QUESTIONS = {
    "max_size": ("Largest size, such as 60KB", _NONE),
    "max_latency_ms": ("Largest latency in milliseconds", _NONE),
    "max_macs": ("Largest number of multiply-accumulates, such as 2M", _NONE),
    "min_accuracy": ("Lowest accuracy on the validation examples, such as 0.9", _NONE),
    "objective": ("Objective: accuracy, accuracy_strict, size, latency or knee", "accuracy"),
}


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
    interactive: bool = typer.Option(
        False, "--interactive", "-i", help="Ask for the limits, and show the choice until it is accepted."
    ),
    metadata: str | None = typer.Option(None, help="Address of the metadata store, if it is not OUT/metadata.db."),
) -> None:
    """Choose another of the measured files under other limits, without training.

    Replaces OUT/selected.tflite, the report and OUT/bundle.zip, and records the
    choice. Limits that are not given are not applied, even if the configuration
    of the run has them.

    Without a limit and an objective nothing is chosen: a table shows which file
    would be, for each step of size, latency and accuracy.
    """
    from learn2compress.api import results

    options = {
        "max_size": max_size, "max_latency_ms": max_latency_ms, "max_macs": max_macs, "min_accuracy": min_accuracy,
        "max_accuracy_drop": max_accuracy_drop, "objective": objective,
    }  # fmt: skip
    limits = {name: value for name, value in options.items() if value is not None}
    if interactive:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise ConfigError("--interactive must be used in a terminal; got none. Give the limits as options.")
        result = results.open_result(output)
        _show_alternatives(result)
        accepted = _ask(result, limits)
        if accepted is None:
            typer.echo("Nothing was changed.")
            return
        limits = accepted
    elif not limits:
        _show_alternatives(results.open_result(output))
        place = shlex.quote(str(output))
        typer.echo(f"\nChoose: learn2compress pick {place} with the options of a row, with others, or --interactive.")
        return
    _report(results.pick(output, metadata=metadata, **limits))


def _show_alternatives(result: "Result") -> None:
    present = result.data.choice.chosen or "none"
    typer.echo(f"Which file would be chosen, by figures of the validation split (at present {present}, marked *):\n")
    typer.echo(repr(result.what_if()))


def _ask(result: "Result", limits: dict[str, str]) -> dict[str, str] | None:
    """Ask for limits and show the choice, until it is accepted.

    Args:
        result: The finished run.
        limits: Limits to begin with, by name.

    Returns:
        The accepted limits; None if the present choice shall stay.
    """
    while True:
        typer.echo("")
        for name, (question, default) in _QUESTIONS.items():
            answer = typer.prompt(question, default=limits.get(name, default)).strip()
            limits = {other: value for other, value in limits.items() if other != name}
            if answer != default:
                limits[name] = answer
        try:
            model = result.would_pick(**limits)
        except (ConfigError, SelectionError) as error:
            typer.echo(f"\n{error}")
            continue
        typer.echo(f"\n{model.name}: {model.reason}")
        answer = typer.prompt("Take it? y: yes, n: ask again, q: change nothing", default="y").strip().lower()
        if answer.startswith("y"):
            return limits or {"objective": "accuracy"}
        if answer.startswith("q"):
            return None


def _report(picked: "Result") -> None:
    """Print the new choice, with a verdict on each file."""
    for note in picked.data.notes:
        typer.echo(f"note: {note}", err=True)
    choice = picked.data.choice
    for verdict in choice.verdicts:
        typer.echo(f"{verdict.status:>10}  {verdict.candidate:<18}  {verdict.reason}")
    typer.echo(f"\n{choice.chosen} was written to {picked.selected}; the report is {picked.report.path}.")
    if picked.bundle:
        typer.echo(f"The app bundle is {picked.bundle}.")
    else:
        typer.echo("No app bundle was written, because the test images are not below this folder.")
