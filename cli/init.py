# SPDX-License-Identifier: Apache-2.0
"""`learn2compress init`: writes a commented configuration to start from."""

from pathlib import Path

import typer

from learn2compress.schemas.errors import OutputError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


def init(
    path: Path = typer.Argument(Path("learn2compress.yaml"), help="The file to write."),
    teacher: str = typer.Option("teacher.keras", help="SavedModel folder, .keras or .h5 file."),
    data: str = typer.Option("images/", help="Image folder, .npz file or TFRecord files."),
) -> None:
    """Write a commented configuration with every field and its default."""
    from learn2compress.cli.config_template import describe_config

    if path.exists():
        raise OutputError(f"{path} must be a new file; it exists already. Choose another name or remove it.")
    try:
        path.write_text(describe_config({"teacher": teacher, "data": data}), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} must be writable; {error.strerror}. Choose another place.") from error
    typer.echo(f"Wrote {path}. Run it with: learn2compress run {path} --output OUT")
