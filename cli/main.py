# SPDX-License-Identifier: Apache-2.0
"""The command `learn2compress`: its subcommands, and what an error looks like.

Exit status: 0 done; 1 a fault of ours, with its traceback; 2 what the user can mend, in one line; further ones where
a command documents them; 130 or 143 after SIGINT or SIGTERM. Help and queries answer at once: a subcommand's module
imports what is heavy inside its functions.
"""

import os
import sys
from typing import NoReturn

import typer

from learn2compress import __version__
from learn2compress.cli import cluster, evaluate, init, inspect, pick, replay, run
from learn2compress.cli import compile as compile_command
from learn2compress.cli.interruption import InterruptedBySignal, end_children, signals_raised
from learn2compress.cli.lineage import bom, diff, history, impact, rebuild_metadata, sign, verify
from learn2compress.cli.lineage import trace as lineage
from learn2compress.schemas.errors import Learn2CompressError

# Some versions of typer bring a click of their own, so its exceptions are taken from typer.
UsageError = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="learn2compress",
    help="From one TensorFlow classifier to a family of small TensorFlow Lite models, with their lineage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for module in (
    run, pick, evaluate, inspect, init, lineage, verify, impact, diff, history, replay,
    rebuild_metadata, sign, bom, compile_command, cluster,
):  # fmt: skip
    module.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"learn2compress {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def _end_interrupted(interrupted: InterruptedBySignal) -> NoReturn:
    """Ends at once: threads of Beam or TensorFlow would keep the process until their work is done."""
    end_children()
    typer.echo(f"Interrupted{'; ' * bool(interrupted.remedy)}{interrupted.remedy}.", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(interrupted.status)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with its status."""
    try:
        with signals_raised():
            status = app(args=arguments, prog_name="learn2compress", standalone_mode=False)
    except InterruptedBySignal as interrupted:
        _end_interrupted(interrupted)
    except UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("Interrupted.", err=True)
        sys.exit(130)
    except Learn2CompressError as error:
        typer.echo(f"learn2compress: {error}", err=True)
        sys.exit(error.exit_status)
    sys.exit(status or 0)


if __name__ == "__main__":
    main()
