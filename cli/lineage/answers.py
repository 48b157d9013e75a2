# SPDX-License-Identifier: Apache-2.0
"""What the lineage commands share: where the records are looked for, how an answer is printed, and the exit status."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from learn2compress.schemas.errors import LineageError

if TYPE_CHECKING:
    from rich.console import Console

    from learn2compress.kubeflow.records.cluster_records import ClusterRecords
    from learn2compress.lineage.graph import Graph
    from learn2compress.schemas.lineage import Answer, Problem

AT = typer.Option(
    None,
    "--at",
    help="Where the run's outputs lie: a folder or an fsspec URL (s3://…, gs://…). Default: near the file or here.",
)
METADATA_GRPC = typer.Option(
    None,
    "--metadata-grpc",
    metavar="HOST:PORT",
    help="Of a cluster that keeps ML Metadata: also ask its service, as Kubeflow Pipelines fills it.",
)
JSON = typer.Option(False, "--json", help="Print JSON, by schemas/lineage.schema.json.")
STATUSES = (
    "Exit status: 0 whole; 2 usage; 3 unknown: no record knows it; 4 tampered: bytes or records were changed; "
    "5 incomplete: a record or file is missing."
)
WIDTH = 100


def graph_for(at: str | None, file: Path | None = None) -> "Graph":
    """Opens the records at a place, or near a file.

    Raises:
        LineageError: There are none.
    """
    from learn2compress.lineage.graph import find_records_near, open_graph

    if at is not None:
        return open_graph(at)
    place = find_records_near(file or Path.cwd() / "any", Path.cwd())
    if place is None:
        beside = f"above {file} or " if file else ""
        raise LineageError(
            f"Provenance records must lie {beside}in the working directory; found none. "
            "Name the place where the run's outputs lie with --at."
        )
    return open_graph(place)


def cluster_for(address: str | None) -> "ClusterRecords | None":
    """Reads a cluster's ML Metadata, if it was asked for.

    Raises:
        ConfigError: The address is none.
        LineageError: It cannot be reached, or knows no step of ours.
    """
    if address is None:
        return None
    from learn2compress.kubeflow.records.cluster_records import ClusterRecords

    return ClusterRecords(address)


def answer(report: "Answer", as_json: bool, render: Callable[["Console"], None]) -> int:
    """Prints a report and tells its exit status."""
    from learn2compress.schemas.lineage import EXIT_STATUS

    if as_json:
        typer.echo(report.model_dump_json(indent=1))
    else:
        console = new_console()
        render(console)
        show_problems(console, report.problems)
    return EXIT_STATUS[report.status]


def new_console(stream: Any = None) -> "Console":
    """A console for text that was written for 100 columns, whatever it is piped into.

    Args:
        stream: Where it prints; the standard output without it.
    """
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    if not console.is_terminal or console.width > WIDTH:
        console = Console(file=stream, highlight=False, width=WIDTH)
    return console


def show_problems(console: "Console", problems: Iterable["Problem"]) -> None:
    """Prints what is wrong, a problem a line."""
    from rich.text import Text

    style = {"tampered": "bold red", "incomplete": "yellow", "note": "dim"}
    for problem in problems:
        kind = (problem.kind.upper(), style[problem.kind])
        console.print(Text.assemble(kind, " ", (problem.where, "bold"), " ", problem.reason), soft_wrap=True)


def percent(fraction: Any) -> str:
    """A fraction in [0, 1] as a percentage; a dash where there is none."""
    return "–" if fraction is None else f"{fraction:.2%}"


def moment(time: str | None) -> str:
    """A time to the second, in UTC."""
    return "–" if time is None else time[:19].replace("T", " ")


def duration(seconds: float | None) -> str:
    """Seconds, or minutes and hours where there are many."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
