# SPDX-License-Identifier: Apache-2.0
"""Options, printing and exit statuses that the lineage commands share."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from learn2compress.schemas.lineage import Problem, Status

    class _Report(Protocol):
        """The result of a query, which `--json` prints as it is."""

        @property
        def status(self) -> Status: ...

        @property
        def problems(self) -> list[Problem]: ...

        def model_dump_json(self, *, indent: int | None = None) -> str: ...


AT = typer.Option(
    None,
    "--at",
    help="Location of the run's outputs: a folder or an fsspec URL (s3://…, gs://…). Default: near the file, or here.",
)
METADATA_GRPC = typer.Option(
    None,
    "--metadata-grpc",
    metavar="HOST:PORT",
    help="Also query the ML Metadata service of a cluster, as filled by Kubeflow Pipelines.",
)
JSON = typer.Option(False, "--json", help="Print JSON that conforms to schemas/lineage.schema.json.")
STATUSES = (
    "Exit status: 0 whole; 2 usage error; 3 unknown: no record lists it; 4 tampered: bytes or records were changed; "
    "5 incomplete: a record or file is missing."
)
WIDTH = 100


def print_report(report: "_Report", as_json: bool, render: Callable[["Console"], None]) -> int:
    """Print a report as JSON or by a function, followed by its problems, and return the exit status."""
    from learn2compress.schemas.lineage import EXIT_STATUS

    if as_json:
        typer.echo(report.model_dump_json(indent=1))
    else:
        console = new_console()
        render(console)
        show_problems(console, report.problems)
    return EXIT_STATUS[report.status]


def new_console(stream: Any = None) -> "Console":
    """Create a console that is at least 100 columns wide when it is not a terminal.

    Args:
        stream: Target stream; standard output by default.
    """
    from learn2compress.cli.console import PlainConsole

    console = PlainConsole(file=stream, highlight=False)
    if not console.is_terminal or console.width > WIDTH:
        console = PlainConsole(file=stream, highlight=False, width=WIDTH)
    return console


def show_problems(console: "Console", problems: Iterable["Problem"]) -> None:
    """Print the problems, one on each line."""
    from rich.text import Text

    style = {"tampered": "bold red", "incomplete": "yellow", "note": "dim"}
    for problem in problems:
        kind = (problem.kind.upper(), style[problem.kind])
        console.print(Text.assemble(kind, " ", (problem.where, "bold"), " ", problem.reason), soft_wrap=True)


def percent(fraction: Any) -> str:
    """Format a fraction in [0, 1] as a percentage, or a dash if it is None."""
    return "–" if fraction is None else f"{fraction:.2%}"


def moment(time: str | None) -> str:
    """Format a time to the second, in UTC."""
    return "–" if time is None else time[:19].replace("T", " ")


def duration(seconds: float | None) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def limits_text(limits: Mapping[str, float]) -> str:
    """Write the limits of a choice, such as `max_size 40,000`."""
    return ", ".join(f"{name} {value:,}" for name, value in limits.items()) or "no limits"


def verdict_text(status: str, reason: str | None) -> str:
    """Return the reason of a verdict, preceded by the status unless it starts with it."""
    told = reason or ""
    return told if told.removeprefix("on the ").startswith(status) else f"{status}: {told}"
