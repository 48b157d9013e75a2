# SPDX-License-Identifier: Apache-2.0
"""A lineage as a graph: as Mermaid text, or laid out in layers as inline SVG.

The layout is Sugiyama's in its simplest form: a node's layer is its longest distance from a source; within a layer
nodes are ordered by the mean place of their neighbours above; an edge is a curve between its nodes' borders.
"""

from collections import defaultdict
from dataclasses import dataclass
from html import escape

from learn2compress.cli.answers import moment, percent
from learn2compress.schemas.lineage import Chain, LineageReport

_BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 216, 58, 34, 62, 16
_SWEEPS = 4


@dataclass(frozen=True)
class Node:
    """A box: a step, the file, or what was found out about it."""

    id: str
    title: str
    detail: str
    kind: str                                    # step, file, measure, missing


@dataclass(frozen=True)
class Edge:
    """What one node made and the other read."""

    source: str
    target: str
    label: str


@dataclass(frozen=True)
class Drawing:
    """Nodes and edges."""

    nodes: list[Node]
    edges: list[Edge]


def draw(report: LineageReport) -> Drawing:
    """Turns a lineage into nodes and edges; steps that chains share are drawn once."""
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], set[str]] = defaultdict(set)
    for chain in report.chains:
        _draw_chain(report, chain, nodes, edges)
    return Drawing(
        list(nodes.values()),
        [Edge(source, target, ", ".join(sorted(labels))) for (source, target), labels in edges.items()],
    )


def _draw_chain(
    report: LineageReport, chain: Chain, nodes: dict[str, Node], edges: dict[tuple[str, str], set[str]]
) -> None:
    for step in chain.steps:
        cached = "from the cache" if step.cached else moment(step.started)
        nodes[step.record] = Node(step.record, step.node, cached, "step")
        for read in step.inputs:
            source = read.record or f"{step.record}:{read.key}"
            if read.record is None:
                nodes[source] = Node(source, read.key, "no record", "missing")
            edges[source, step.record].add(read.key)
    file = f"file:{report.sha256}"
    nodes[file] = Node(file, report.file.rsplit("/", 1)[-1], f"{report.sha256[:16]}…", "file")
    edges[chain.made_by, file].add(chain.output)
    for measurement in chain.measurements:
        figures = measurement.figures.get("figures", {})
        accuracy = ", ".join(f"{split} {percent(found.get('top1'))}" for split, found in figures.items())
        nodes[measurement.record] = Node(measurement.record, "TFLiteEvaluator", accuracy, "measure")
        edges[file, measurement.record].add("measured")
    for choice in chain.choices:
        nodes[choice.record] = Node(choice.record, "StudentSelector", choice.status, "measure")
        edges[file, choice.record].add("judged")


def to_mermaid(drawing: Drawing) -> str:
    """Writes a flowchart (https://mermaid.js.org/syntax/flowchart.html)."""
    names = {node.id: f"n{number}" for number, node in enumerate(drawing.nodes)}
    shapes = {"step": ("[", "]"), "file": ("([", "])"), "measure": ("{{", "}}"), "missing": ("[/", "/]")}
    lines = ["flowchart TD"]
    for node in drawing.nodes:
        left, right = shapes[node.kind]
        lines.append(f'    {names[node.id]}{left}"{_mermaid(node.title)}<br/>{_mermaid(node.detail)}"{right}')
    for edge in drawing.edges:
        # A node that is missing from the records has no box.
        if edge.source in names and edge.target in names:
            lines.append(f'    {names[edge.source]} -->|"{_mermaid(edge.label)}"| {names[edge.target]}')
    return "\n".join(lines) + "\n"


def to_svg(drawing: Drawing) -> str:
    """Lays the graph out and writes it as an SVG element."""
    places = _layout(drawing)
    width = max((x for x, _ in places.values()), default=0) + _BOX_WIDTH + _MARGIN
    height = max((y for _, y in places.values()), default=0) + _BOX_HEIGHT + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        'role="img" aria-label="graph of the steps">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" class="head"/></marker></defs>',
    ]
    for edge in drawing.edges:
        if edge.source in places and edge.target in places:
            parts.append(_svg_edge(places[edge.source], places[edge.target], edge))
    for node in drawing.nodes:
        x, y = places[node.id]
        parts.append(
            f'<g class="node {node.kind}" transform="translate({x:.0f} {y:.0f})"><title>{escape(node.id)}</title>'
            f'<rect width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="7"/>'
            f'<text x="{_BOX_WIDTH / 2}" y="24" class="title">{escape(_cut(node.title, 26))}</text>'
            f'<text x="{_BOX_WIDTH / 2}" y="43">{escape(_cut(node.detail, 34))}</text></g>'
        )
    return "\n".join([*parts, "</svg>"])


def _layout(drawing: Drawing) -> dict[str, tuple[float, float]]:
    """The upper left corner of each node."""
    ids = [node.id for node in drawing.nodes]
    above: dict[str, list[str]] = {id: [] for id in ids}
    below: dict[str, list[str]] = {id: [] for id in ids}
    for edge in drawing.edges:
        if edge.source in above and edge.target in above:
            above[edge.target].append(edge.source)
            below[edge.source].append(edge.target)
    layer = _layers(ids, above)
    rows: dict[int, list[str]] = defaultdict(list)
    for id in ids:
        rows[layer[id]].append(id)
    place = {id: float(number) for row in rows.values() for number, id in enumerate(row)}
    for sweep in range(_SWEEPS):
        near = above if sweep % 2 == 0 else below
        for row in sorted(rows, reverse=sweep % 2 == 1):
            mean = {id: _mean([place[one] for one in near[id]], place[id]) for id in rows[row]}
            rows[row].sort(key=mean.__getitem__)
            shift = (max(map(len, rows.values())) - len(rows[row])) / 2
            place.update({id: number + shift for number, id in enumerate(rows[row])})
    return {
        id: (_MARGIN + place[id] * (_BOX_WIDTH + _GAP_X), _MARGIN + layer[id] * (_BOX_HEIGHT + _GAP_Y)) for id in ids
    }


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _layers(ids: list[str], above: dict[str, list[str]]) -> dict[str, int]:
    """Longest distance from a source; what lies on a cycle ends where it is after as many rounds as there are nodes."""
    layer = dict.fromkeys(ids, 0)
    for _ in ids:
        deeper = {id: max((layer[one] + 1 for one in above[id]), default=0) for id in ids}
        if deeper == layer or max(deeper.values(), default=0) >= len(ids):
            break
        layer = deeper
    return layer


def _svg_edge(source: tuple[float, float], target: tuple[float, float], edge: Edge) -> str:
    x1, y1 = source[0] + _BOX_WIDTH / 2, source[1] + _BOX_HEIGHT
    x2, y2 = target[0] + _BOX_WIDTH / 2, target[1]
    bend = max(26.0, (y2 - y1) / 2)
    # An edge past a layer swings aside, so that it does not run behind the boxes between.
    aside = 0.0 if y2 - y1 <= _GAP_Y + 1 else (_BOX_WIDTH + _GAP_X) * 0.55 * (1 if x2 >= x1 else -1)
    path = f"M{x1:.0f} {y1:.0f}C{x1 + aside:.0f} {y1 + bend:.0f} {x2 + aside:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"
    middle_x, middle_y = (x1 + x2) / 2 + 0.75 * aside, (y1 + y2) / 2
    label = escape(_cut(edge.label, 40))
    return (
        f'<path class="edge" d="{path}" marker-end="url(#arrow)"/>'
        f'<text class="label" x="{middle_x:.0f}" y="{middle_y + 4:.0f}">{label}</text>'
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _mermaid(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
