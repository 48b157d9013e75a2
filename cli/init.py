# SPDX-License-Identifier: Apache-2.0
"""`learn2compress init`: writes a commented configuration to start from."""

import sys
from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


def init(
    path: Path = typer.Argument(Path("learn2compress.yaml"), help="The file to write."),
    teacher: str | None = typer.Option(None, help="SavedModel folder, .keras or .h5 file; it must exist."),
    data: str | None = typer.Option(None, help="Image folder, .npz, .csv or TFRecord files; they must exist."),
    inspect: bool = typer.Option(
        True, "--inspect/--no-inspect", help="Examine teacher and data if both are given, and write what was found."
    ),
) -> None:
    """Write a commented configuration with every field and its default.

    In a terminal, the teacher and the data are asked for if they are not given.
    What was found about them is written as a comment beside each value: scaling,
    sizes, classes, numbers of images.
    """
    from learn2compress.api import configuring

    if sys.stdin.isatty() and sys.stdout.isatty() and not path.exists():
        teacher = teacher or _ask("Teacher: a SavedModel folder, .keras or .h5 file")
        data = data or _ask("Data: an image folder, .npz, .csv or TFRecord files, or the word digits")
    written = configuring.init(path, teacher=teacher, data=data, inspect=inspect, say=typer.echo)
    typer.echo(f"Wrote {written}. Run it with: learn2compress run {written} --output OUT")


def _ask(question: str) -> str | None:
    """Ask for a path; None if it is left open."""
    return typer.prompt(f"{question} (Enter: later)", default="", show_default=False).strip() or None
