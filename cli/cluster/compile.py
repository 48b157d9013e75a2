# SPDX-License-Identifier: Apache-2.0
"""`learn2compress compile` and `learn2compress lint`: compile the pipeline for Kubeflow, and check a compiled file."""

from pathlib import Path

import typer


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
    from learn2compress.api import clusters

    typer.echo(f"Wrote {clusters.compile_pipeline(config, output, image=image, settings=settings)}.")


def lint(pipeline: Path = typer.Argument(..., help="A compiled pipeline.")) -> None:
    """Check a compiled pipeline for constructs that a cluster refuses. Exit status 3: the check found some."""
    from learn2compress.api import clusters

    faults = clusters.lint_pipeline(pipeline)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(3)
    typer.echo(f"{pipeline}: no problems found.")
