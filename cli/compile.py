# SPDX-License-Identifier: Apache-2.0
"""`learn2compress compile` and `learn2compress lint`: compile the pipeline for Kubeflow, and check a compiled file."""

from pathlib import Path

import typer

from learn2compress.pipeline.environment import prepare_environment
from learn2compress.schemas.errors import OutputError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("compile")(compile_config)
    app.command("lint")(lint)


def compile_config(
    config: Path = typer.Argument(..., help="The YAML configuration."),
    output: Path = typer.Option(Path("pipeline.yaml"), "--output", "-o", help="The file to write."),
    image: str | None = typer.Option(None, help="Container image of the steps (default: kubeflow.image)."),
    settings: list[str] = typer.Option([], "--set", help="Override a field: --set distill.epochs=3 (repeatable)."),
) -> None:
    """Compile the pipeline for Kubeflow Pipelines; the same configuration gives the same bytes."""
    from learn2compress.schemas.config import load_config

    chosen = load_config(config, settings)
    prepare_environment()
    from learn2compress.kubeflow.spec.compile import compile_pipeline

    text = compile_pipeline(chosen, image)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"output {output} must be writable; {error.strerror}. Choose another place.") from error
    typer.echo(f"Wrote {output}.")


def lint(pipeline: Path = typer.Argument(..., help="A compiled pipeline.")) -> None:
    """Check a compiled pipeline for constructs that a cluster refuses. Exit status 3: the check found some."""
    prepare_environment()
    from learn2compress.kubeflow.spec.lint import lint_file

    faults = lint_file(pipeline)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(3)
    typer.echo(f"{pipeline}: no problems found.")
