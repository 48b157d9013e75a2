# SPDX-License-Identifier: Apache-2.0
"""Lists the runs at a location from their records: times, executed and cached steps, and the chosen model."""

from collections import defaultdict

from learn2compress.lineage.graph import Graph
from learn2compress.lineage.index import Entry, OutputEntry
from learn2compress.lineage.queries.steps import seconds_between
from learn2compress.lineage.queries.trace import SELECTION
from learn2compress.lineage.records.output_record import NODE as OUTPUT_NODE
from learn2compress.schemas.lineage import HistoryReport, RunView, status_of


def history_of(graph: Graph) -> HistoryReport:
    """List the runs, newest first."""
    runs: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in graph.index.entries():
        if not entry.problem and entry.node != OUTPUT_NODE:
            runs[entry.root, entry.pipeline, entry.run].append(entry)
    selections = {output.record: output for output in graph.index.all_outputs() if output.type == SELECTION}
    views = [_view(*key, entries, selections) for key, entries in runs.items()]
    problems = graph.broken()
    return HistoryReport(
        status=status_of(problems),
        location=str(graph.home),
        runs=sorted(views, key=lambda view: (view.started or "", view.run), reverse=True),
        problems=problems,
    )


def _view(root: str, pipeline: str, run: str, entries: list[Entry], selections: dict[int, OutputEntry]) -> RunView:
    chosen = next((selections[entry.id].properties for entry in reversed(entries) if entry.id in selections), {})
    worked = [seconds_between(entry.started, entry.finished) for entry in entries if not entry.cached]
    return RunView(
        run=run,
        pipeline=pipeline,
        root=root,
        started=min((entry.started for entry in entries if entry.started), default=None),
        finished=max((entry.finished for entry in entries if entry.finished), default=None),
        seconds=round(sum(seconds for seconds in worked if seconds is not None), 3),
        executions=len(entries),
        cached=sum(entry.cached for entry in entries),
        nodes=[entry.node for entry in entries],
        chosen=chosen.get("chosen"),
        sha256=chosen.get("sha256"),
        objective=chosen.get("objective"),
        validation_accuracy=chosen.get("validation_accuracy"),
        test_accuracy=chosen.get("test_accuracy"),
    )
