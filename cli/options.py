# SPDX-License-Identifier: Apache-2.0
"""The options that several commands have: the limits of the choice, and how much a run shows."""

from typing import TYPE_CHECKING

import typer

from learn2compress.schemas.errors import ConfigError

if TYPE_CHECKING:
    from learn2compress.api.running import Detail

MAX_SIZE = typer.Option(None, help="Largest file size in bytes, such as 60KB, 1.5MB or 64KiB.")
MAX_LATENCY_MS = typer.Option(None, help="Largest latency in milliseconds.")
MAX_MACS = typer.Option(None, help="Largest number of multiply-accumulates, such as 2M.")
MIN_ACCURACY = typer.Option(None, help="Lowest accuracy on the validation images, such as 0.9.")
MAX_ACCURACY_DROP = typer.Option(None, help="Largest drop from the teacher's accuracy, such as 0.02.")
OBJECTIVE = typer.Option(
    None, help="Criterion within the limits: accuracy (the default), accuracy_strict, size, latency, knee."
)
QUIET = typer.Option(False, "--quiet", "-q", help="Print only the path of the chosen model; OUT/run.log has the rest.")
VERBOSE = typer.Option(False, "--verbose", "-v", help="Print each epoch and each step on a line of its own.")


def detail_of(quiet: bool, verbose: bool) -> "Detail":
    """Choose what is shown.

    Raises:
        ConfigError: Both options are given.
    """
    if quiet and verbose:
        raise ConfigError("--quiet must be given without --verbose; got both. Leave one out.")
    return "quiet" if quiet else "verbose" if verbose else "normal"
