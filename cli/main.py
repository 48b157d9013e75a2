# SPDX-License-Identifier: Apache-2.0
"""The command `learn2compress`: registers the subcommands and reports errors.

Exit status: 0 success; 1 internal error, with its traceback; 2 user error, in one line; 3 and above where a command
documents them; 130 or 143 after SIGINT or SIGTERM. To keep help and queries fast, the modules of the subcommands import
heavy packages inside their functions.
"""

import atexit
import gc
import os
import sys
from typing import NoReturn, cast

import typer

from learn2compress import __version__
from learn2compress.api.options import named_as_options
from learn2compress.cli import cluster, compress, init, pick, plan, replay, report, run
from learn2compress.cli.cluster import compile as compile_command
from learn2compress.cli.interruption import InterruptedBySignal, end_children, signals_raised
from learn2compress.cli.lineage import bom, diff, history, impact, rebuild_metadata, sign, verify
from learn2compress.cli.lineage import trace as lineage
from learn2compress.cli.measuring import bench, evaluate, inspect
from learn2compress.schemas.errors import Learn2CompressError, full_disk

# Some versions of typer bundle their own click, so the exception is taken from typer.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])

_NEXT = """\
Turn one TensorFlow classifier into a family of small TensorFlow Lite models.

Compress a model, with labelled images in a folder for each class:
    learn2compress compress my_model.keras my_images/ --max-size 200KB --output out

Or write a configuration with every setting, change it, and run it:
    learn2compress init my.yaml --teacher my_model.keras --data my_images/
    learn2compress run my.yaml --output out

See which of the measured files other limits would choose:
    learn2compress pick out

Look at any .tflite file, and measure it on labelled images:
    learn2compress inspect FILE
    learn2compress evaluate FILE --data my_images/

All commands: learn2compress --help. Completion in your shell: learn2compress --install-completion."""

app = typer.Typer(
    name="learn2compress",
    help="Turn one TensorFlow classifier into a family of small TensorFlow Lite models, with their lineage.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help imports a Markdown parser and takes twice as long
)

for module in (
    compress, run, plan, pick, report, evaluate, bench, inspect, init, lineage, verify, impact, diff, history, replay,
    rebuild_metadata, sign, bom, compile_command, cluster,
):  # fmt: skip
    module.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"learn2compress {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    _version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(_NEXT)


def _end_interrupted(interrupted: InterruptedBySignal) -> NoReturn:
    """End the process at once, since threads of Beam or TensorFlow would keep it alive until their work is done."""
    end_children()
    typer.echo(f"Interrupted{'; ' * bool(interrupted.remedy)}{interrupted.remedy}.", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(interrupted.status)


def _release_models() -> None:
    """Free models while all modules are there; TensorFlow's functions otherwise complain when the process ends."""
    if "tensorflow" in sys.modules:
        gc.collect()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    atexit.unregister(_release_models)  # by an earlier call in the same process
    atexit.register(_release_models)
    try:
        with signals_raised(), named_as_options():
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
    except Exception as error:
        full = full_disk(error)
        if full is None:
            raise
        typer.echo(f"learn2compress: {full}", err=True)
        sys.exit(full.exit_status)
    sys.exit(status or 0)


if __name__ == "__main__":
    main()
