# SPDX-License-Identifier: Apache-2.0
"""`learn2compress impact`: lists everything that derives from a teacher, a data set, any file, or one training image.

Exit status: 0 found; 2 usage error; 3 no record lists it; 4 tampered; 5 incomplete.
"""

from typing import TYPE_CHECKING

import typer

from learn2compress.cli.lineage.output import (
    AT,
    JSON,
    METADATA_GRPC,
    STATUSES,
    moment,
    print_report,
)

if TYPE_CHECKING:
    from rich.console import Console

    from learn2compress.schemas.lineage import ImpactedExecution, ImpactReport

_SHOWN_RUNS = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("impact", epilog=STATUSES)(impact)


def impact(
    subject: str = typer.Argument(
        ..., help="A file or folder (a teacher, a picture …), a digest or its first digits, or an example's id."
    ),
    at: str | None = AT,
    metadata_grpc: str | None = METADATA_GRPC,
    as_json: bool = JSON,
) -> int:
    """List the executions and models that derive from a subject.

    A picture is matched by its pixels against the shards of every data set; the
    models trained on that data set derive from it.
    """
    from learn2compress.api import auditing

    report = auditing.impact(subject, at, metadata_grpc=metadata_grpc)
    return print_report(report, as_json, lambda console: _print(console, report))


def _print(console: "Console", report: "ImpactReport") -> None:
    from rich.text import Text
    from rich.tree import Tree

    if not report.causes:
        console.print(f"{report.subject}: no record at {report.location} lists it.", markup=False)
        return
    tree = Tree(Text.assemble((report.subject, "bold"), f"\n{report.digest}"))
    causes = tree.add(Text("Found as", style="bold"))
    for cause in report.causes[:_SHOWN_RUNS]:
        split = f", in split {cause.split}" if cause.split else ""
        causes.add(Text(f"{cause.kind} {cause.name}{split}  ({cause.record})"))
    models: dict[str, list[str]] = {}
    for model in report.models:
        models.setdefault(model.run, []).append(f"{model.file}  {model.bytes:,} B  {model.sha256[:16]}…")
    counts = f"{len(report.executions):,} executions in {len(report.runs):,} runs, {len(report.models):,} models"
    derived = tree.add(Text(f"Derived: {counts}", style="bold"))
    by_run: dict[str, list[ImpactedExecution]] = {}
    for execution in report.executions:
        by_run.setdefault(execution.run, []).append(execution)
    for run in report.runs[-_SHOWN_RUNS:]:
        executions = by_run[run]
        last = max(execution.finished or "" for execution in executions)
        branch = derived.add(Text.assemble((f"run {run}", "cyan"), f"  {moment(last or None)}"))
        branch.add(Text(", ".join(f"{one.node}{' (cached)' if one.cached else ''}" for one in executions)))
        for line in models.get(run, []):
            branch.add(Text(line))
    if len(report.runs) > _SHOWN_RUNS:
        derived.add(Text(f"… and {len(report.runs) - _SHOWN_RUNS} earlier runs; --json lists them all"))
    console.print(tree)
