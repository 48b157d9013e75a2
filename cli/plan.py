# SPDX-License-Identifier: Apache-2.0
"""`learn2compress plan`: shows before any training which students can be cut out of the teacher's network.

Exit status: 0 the students were planned; 2 the teacher cannot be rebuilt, or a budget cannot be met.
"""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plan")(plan)


def plan(
    config: Path = typer.Argument(..., help="The YAML configuration; `learn2compress init` writes one."),
    limit: int | None = typer.Option(None, min=1, help="Use at most this many examples of each split of the data."),
    settings: list[str] = typer.Option([], "--set", help="Override a field: --set students.input=128 (repeatable)."),
) -> None:
    """Show the exits of the teacher's network with accuracy of a linear probe, parameters, bytes and MACs.

    The table has a line for each exit and input size; below it stands which exit each
    student of students.sizes would have with students.from: teacher. Nothing is trained
    and nothing is written.
    """
    from learn2compress.api import configuring

    typer.echo(configuring.plan(config, settings=settings, limit=limit))
