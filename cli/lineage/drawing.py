# SPDX-License-Identifier: Apache-2.0
"""Draws a lineage as a graph: as Mermaid text, or laid out in layers as inline SVG.

The layout is the simplest form of Sugiyama's method. The layer of a node is its longest distance from a source. An edge
that crosses layers gets a bend point in each of them. Within a layer, nodes and points are ordered by the mean position
of their neighbours and then moved towards it as far as they do not overlap.
"""

from collections import defaultdict
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from learn2compress.cli.lineage.output import moment, percent
from learn2compress.schemas.lineage import Chain, LineageReport

_BOX_WIDTH, _BOX_HEIGHT, _POINT_WIDTH, _GAP_X, _GAP_Y, _MARGIN = 216, 58, 70, 24, 64, 16
_SWEEPS = 8

Place = tuple[float, float]


@dataclass(frozen=True)
class Node:
    """A box: a step, the file, or a measurement."""

    id: str
    title: str
    detail: str
    kind: str  # step, file, measure, missing


@dataclass(frozen=True)
class Edge:
    """A connection from the node that made an artifact to a node that read it."""

    source: str
    target: str
    label: str


@dataclass(frozen=True)
class Drawing:
    """Nodes and edges of a graph."""

    nodes: list[Node]
    edges: list[Edge]


def draw(report: LineageReport) -> Drawing:
    """Convert a lineage to nodes and edges; steps that several chains share are drawn once."""
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
    """Write a flowchart (https://mermaid.js.org/syntax/flowchart.html)."""
    names = {node.id: f"n{number}" for number, node in enumerate(drawing.nodes)}
    shapes = {"step": ("[", "]"), "file": ("([", "])"), "measure": ("{{", "}}"), "missing": ("[/", "/]")}
    lines = ["flowchart TD"]
    for node in drawing.nodes:
        left, right = shapes[node.kind]
        lines.append(f'    {names[node.id]}{left}"{_mermaid(node.title)}<br/>{_mermaid(node.detail)}"{right}')
    for edge in drawing.edges:
        # A node whose record is missing has no box.
        if edge.source in names and edge.target in names:
            lines.append(f'    {names[edge.source]} -->|"{_mermaid(edge.label)}"| {names[edge.target]}')
    return "\n".join(lines) + "\n"


def to_svg(drawing: Drawing) -> str:
    """Lay out the graph and write it as an SVG element."""
    boxes, curves = _layout(drawing)
    width = max((x for x, _ in boxes.values()), default=0) + _BOX_WIDTH + _MARGIN
    width = max([width, *(x + _POINT_WIDTH for points in curves.values() for x, _ in points)])
    height = max((y for _, y in boxes.values()), default=0) + _BOX_HEIGHT + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        'role="img" aria-label="graph of the steps">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" class="head"/></marker></defs>',
    ]
    parts += [_svg_curve(points) for points in curves.values()]
    for node in drawing.nodes:
        x, y = boxes[node.id]
        parts.append(
            f'<g class="node {node.kind}" transform="translate({x:.0f} {y:.0f})"><title>{escape(node.id)}</title>'
            f'<rect width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="7"/>'
            f'<text x="{_BOX_WIDTH / 2}" y="24" class="title">{escape(_cut(node.title, 26))}</text>'
            f'<text x="{_BOX_WIDTH / 2}" y="43">{escape(_cut(node.detail, 34))}</text></g>'
        )
    # Labels are drawn last so that no line crosses them.
    parts += [_svg_label(points, edge) for edge, points in curves.items()]
    return "\n".join([*parts, "</svg>"])


def _layout(drawing: Drawing) -> tuple[dict[str, Place], dict[Edge, list[Place]]]:
    """Compute the upper left corner of each box and the points of each edge."""
    ids = [node.id for node in drawing.nodes]
    edges = [edge for edge in drawing.edges if edge.source in ids and edge.target in ids]
    layer = _layers(ids, edges)
    rows: dict[int, list[str]] = defaultdict(list)
    for id in ids:
        rows[layer[id]].append(id)
    paths: dict[Edge, list[str]] = {}
    for number, edge in enumerate(edges):
        bends = [f"bend {number} {between}" for between in range(layer[edge.source] + 1, layer[edge.target])]
        for between, bend in zip(range(layer[edge.source] + 1, layer[edge.target]), bends, strict=True):
            rows[between].append(bend)
        paths[edge] = [edge.source, *bends, edge.target]
    near: dict[str, list[str]] = defaultdict(list)
    for path in paths.values():
        for one, other in pairwise(path):
            near[one].append(other)
            near[other].append(one)
    boxes = set(ids)
    middle: dict[str, float] = {}
    for row in rows.values():
        middle.update(_apart(row, {id: float(place) for place, id in enumerate(row)}, boxes))
    for sweep in range(_SWEEPS):
        for number in sorted(rows, reverse=sweep % 2 == 1):
            wanted = {id: _mean([middle[one] for one in near[id]], middle[id]) for id in rows[number]}
            rows[number].sort(key=wanted.__getitem__)
            middle.update(_apart(rows[number], wanted, boxes))
    left = min((middle[id] - _width(id, boxes) / 2 for row in rows.values() for id in row), default=0.0) - _MARGIN
    middle = {id: place - left for id, place in middle.items()}
    top: dict[str, float] = {
        id: _MARGIN + number * (_BOX_HEIGHT + _GAP_Y) for number, row in rows.items() for id in row
    }
    curves = {edge: _curve(edge, path, paths, middle, top) for edge, path in paths.items()}
    return {id: (middle[id] - _BOX_WIDTH / 2, top[id]) for id in ids}, curves


def _curve(
    edge: Edge, path: list[str], paths: dict[Edge, list[str]], middle: dict[str, float], top: dict[str, float]
) -> list[Place]:
    """Compute the points of an edge from the lower border of one box to the upper border of another."""
    leaving = sorted((p[1] for e, p in paths.items() if e.source == edge.source), key=middle.__getitem__)
    arriving = sorted((p[-2] for e, p in paths.items() if e.target == edge.target), key=middle.__getitem__)
    start = middle[edge.source] + _port(leaving.index(path[1]), len(leaving))
    end = middle[edge.target] + _port(arriving.index(path[-2]), len(arriving))
    points = [(start, top[edge.source] + _BOX_HEIGHT)]
    for bend in path[1:-1]:
        points += [(middle[bend], top[bend]), (middle[bend], top[bend] + _BOX_HEIGHT)]
    return [*points, (end, top[edge.target])]


def _port(number: int, count: int) -> float:
    return ((number + 1) / (count + 1) - 0.5) * _BOX_WIDTH * 0.8


def _apart(row: list[str], wanted: dict[str, float], boxes: set[str]) -> dict[str, float]:
    """Place a row's items near the wanted positions, in order and without overlap, as the mean of two greedy passes."""
    right: list[float] = []
    left: list[float] = []
    for id in row:
        border = right[-1] + _distance(row[len(right) - 1], id, boxes) if right else wanted[id]
        right.append(max(wanted[id], border))
    for id in reversed(row):
        border = left[-1] - _distance(id, row[len(row) - len(left)], boxes) if left else wanted[id]
        left.append(min(wanted[id], border))
    return {id: (a + b) / 2 for id, a, b in zip(row, right, reversed(left), strict=True)}


def _distance(one: str, other: str, boxes: set[str]) -> float:
    return (_width(one, boxes) + _width(other, boxes)) / 2 + _GAP_X


def _width(id: str, boxes: set[str]) -> float:
    return _BOX_WIDTH if id in boxes else _POINT_WIDTH


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _layers(ids: list[str], edges: list[Edge]) -> dict[str, int]:
    """Compute each node's longest distance from a source; on a cycle, stop after as many rounds as there are nodes."""
    above: dict[str, list[str]] = {id: [] for id in ids}
    for edge in edges:
        above[edge.target].append(edge.source)
    layer = dict.fromkeys(ids, 0)
    for _ in ids:
        deeper = {id: max((layer[one] + 1 for one in above[id]), default=0) for id in ids}
        if deeper == layer or max(deeper.values(), default=0) >= len(ids):
            break
        layer = deeper
    return layer


def _svg_curve(points: list[Place]) -> str:
    path = [f"M{points[0][0]:.0f} {points[0][1]:.0f}"]
    for (x1, y1), (x2, y2) in pairwise(points):
        bend = (y2 - y1) / 2
        path.append(f"C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}")
    return f'<path class="edge" d="{"".join(path)}" marker-end="url(#arrow)"/>'


def _svg_label(points: list[Place], edge: Edge) -> str:
    (x1, y1), (x2, y2) = points[len(points) // 2 - 1], points[len(points) // 2]
    label = escape(_cut(edge.label, 40))
    return f'<text class="label" x="{(x1 + x2) / 2:.0f}" y="{(y1 + y2) / 2 + 4:.0f}">{label}</text>'


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _mermaid(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
