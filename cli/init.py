# SPDX-License-Identifier: Apache-2.0
"""`learn2compress init`: writes a commented configuration to start from."""

import glob
from pathlib import Path

import typer

from learn2compress.schemas.errors import DataError, OutputError, TeacherError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


def init(
    path: Path = typer.Argument(Path("learn2compress.yaml"), help="The file to write."),
    teacher: str | None = typer.Option(None, help="SavedModel folder, .keras or .h5 file; it must exist."),
    data: str | None = typer.Option(None, help="Image folder, .npz, .csv or TFRecord files; they must exist."),
) -> None:
    """Write a commented configuration with every field and its default."""
    from learn2compress.cli.config_template import describe_config

    if path.exists():
        raise OutputError(f"{path} must be a new file; it exists already. Choose another name or remove it.")
    if teacher is not None and not Path(teacher).exists():
        raise TeacherError(f"--teacher must be an existing model; got {teacher}, which does not exist. Check the path.")
    if data is not None and data != "digits" and not Path(data).exists() and not glob.glob(data, recursive=True):
        raise DataError(f"--data must be an existing file or folder; got {data}, which does not exist. Check the path.")
    paths = {"teacher": teacher or "teacher.keras", "data": data or "images/"}
    try:
        path.write_text(describe_config(paths), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} must be writable; {error.strerror}. Choose another place.") from error
    typer.echo(f"Wrote {path}. Run it with: learn2compress run {path} --output OUT")
