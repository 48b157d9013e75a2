# SPDX-License-Identifier: Apache-2.0
"""Draws a family as SVG from its specification alone, so that the drawing always agrees with the trained model.

The trunk runs from left to right; the tail of each student is drawn below the end of its segment. The drawing has its
own background and follows the light or dark setting of the browser.
"""

import math
from html import escape

from learn2compress.compression.family.spec import (
    Block,
    Conv,
    FamilySpec,
    Separable,
    family_costs,
    is_residual,
    shared_parameters,
)
from learn2compress.schemas.units import format_bytes, format_count

_BOX, _HIGH, _GAP = (88, 40), 60, 20  # pixels: size of a block; vertical distance of blocks; horizontal gap
_CARD = (150, 92)
_MARGIN, _TRUNK_Y = 28, 84
_MIN_WIDTH = 660  # width of the legend
_STYLE = """
.card{fill:#ffffff;stroke:#d5dae1}.line{stroke:#8a94a3;fill:none;stroke-width:1.5}.text{fill:#1b2430}
.faint{fill:#5b6675}.trunk{fill:#dbe7fb;stroke:#5b87d6}.own{fill:#fdebd3;stroke:#d08a2e}.name{fill:#fff6ea;stroke:#d08a2e}
.plus{fill:#ffffff;stroke:#8a94a3}.image{fill:#eef0f3;stroke:#8a94a3}
@media (prefers-color-scheme: dark){.card{fill:#161b22;stroke:#343c47}.line{stroke:#76808e}.text{fill:#e8edf3}
.faint{fill:#a3aebb}.trunk{fill:#1d3358;stroke:#6d9bea}.own{fill:#4a3312;stroke:#dd9c46}
.name{fill:#2a2013;stroke:#dd9c46}.plus{fill:#161b22;stroke:#76808e}
.image{fill:#2a313a;stroke:#76808e}}
text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;text-anchor:middle}
.big{font-size:14px;font-weight:600}.small{font-size:11px}
"""


def draw_family(spec: FamilySpec) -> str:
    """Draw a family.

    Args:
        spec: The family.

    Returns:
        An SVG document.
    """
    canvas = _Canvas()
    shape = spec.input_shape
    x: float = _MARGIN + canvas.block(_MARGIN, _TRUNK_Y, "image", ("image", _size(shape)), arrow=False) + _GAP
    begin = x
    x, shape = _draw_row(canvas, x, spec.stem, shape)
    bottom: float = _TRUNK_Y
    costs = family_costs(spec)
    for index, branch in enumerate(spec.branches):
        x, shape = _draw_row(canvas, x, branch.segment, shape)
        end = max(x - _GAP, begin + _CARD[0])
        users = spec.students[index:]
        shared = "all" if len(users) == len(spec.students) and len(users) > 1 else ", ".join(users)
        canvas.bracket(begin, end, f"{'shared by' if len(users) > 1 else 'only'} {shared}")
        centre = (x - _GAP) - _BOX[0] / 2
        y = _draw_tail(canvas, centre, branch.tail, shape)
        cost = costs[branch.student]
        predicted = [f"about {format_bytes(cost.int8_bytes)} in int8"] if cost.int8_bytes is not None else []
        figures = [f"{cost.parameters:,} parameters", f"{format_count(cost.macs)} MACs", *predicted]
        bottom = max(bottom, canvas.card(centre, y, branch.student, figures))
        x = max(x, end + _GAP)
        begin = x
        if index < len(spec.branches) - 1:
            canvas.line(x - _GAP, _TRUNK_Y + _BOX[1] / 2, x, _TRUNK_Y + _BOX[1] / 2)
    family, apart = shared_parameters(spec)
    note = f"together {family:,} parameters; {apart:,} if nothing were shared"
    right = max(x - _GAP, centre + _CARD[0] / 2) + _MARGIN
    return canvas.document(max(right, _MIN_WIDTH), bottom, note)


def _draw_row(
    canvas: "_Canvas", x: float, blocks: tuple[Block, ...], shape: tuple[int, int, int]
) -> tuple[float, tuple[int, int, int]]:
    for block in blocks:
        after = _after(block, shape)
        canvas.block(x, _TRUNK_Y, "trunk", (_kind(block), _size(after)), residual=is_residual(block, shape[2]))
        x, shape = x + _BOX[0] + _GAP, after
    return x, shape


def _draw_tail(canvas: "_Canvas", centre: float, blocks: tuple[Block, ...], shape: tuple[int, int, int]) -> float:
    y = _TRUNK_Y
    for block in blocks:
        y, after = y + _HIGH, _after(block, shape)
        canvas.hanging(centre, y, (_kind(block), _size(after)), residual=is_residual(block, shape[2]))
        shape = after
    canvas.hanging(centre, y + _HIGH, ("mean, dense", f"{shape[2]} → logits"))
    return y + 2 * _HIGH


def _after(block: Block, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    return math.ceil(shape[0] / block.stride), math.ceil(shape[1] / block.stride), block.filters


def _kind(block: Block) -> str:
    if isinstance(block, Separable):
        return "separable"
    kernel = block.kernel if isinstance(block, Conv) else 3
    return f"conv {kernel}×{kernel}"


def _size(shape: tuple[int, int, int]) -> str:
    return "×".join(map(str, shape))


class _Canvas:
    """Collects SVG elements; the y of a block is that of its upper edge."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def block(
        self,
        x: float,
        y: float,
        style: str,
        lines: tuple[str, str],
        arrow: bool = True,
        residual: bool = False,
    ) -> int:
        """Draw a block and the line that leads to it from the left; return its width."""
        width, height = _BOX
        if arrow:
            self.line(x - _GAP, y + height / 2, x, y + height / 2)
        self._box(x, y, style, lines)
        if residual:
            # The shortcut above the block: the input is added to the output.
            before, end = x - _GAP / 2, x + width - 14
            self.parts.append(
                f'<path class="line" d="M{before:g} {y + height / 2:g}V{y - 6:g}Q{before:g} {y - 12:g} {before + 6:g} '
                f'{y - 12:g}H{end - 6:g}Q{end:g} {y - 12:g} {end:g} {y - 6:g}V{y:g}"/>'
            )
            self._plus(end, y)
        return width

    def hanging(self, centre: float, y: float, lines: tuple[str, str], residual: bool = False) -> None:
        """Draw a block of a student's tail and the line that leads to it from above."""
        width, height = _BOX
        self.line(centre, y - _HIGH + height, centre, y)
        self._box(centre - width / 2, y, "own", lines)
        if residual:
            right, above, middle = centre + width / 2, y - (_HIGH - height) / 2, y + height / 2
            self.parts.append(
                f'<path class="line" d="M{centre:g} {above:g}H{right + 6:g}Q{right + 12:g} {above:g} {right + 12:g} '
                f'{above + 6:g}V{middle - 6:g}Q{right + 12:g} {middle:g} {right + 6:g} {middle:g}H{right:g}"/>'
            )
            self._plus(right, middle)

    def card(self, centre: float, y: float, name: str, figures: list[str]) -> float:
        """Draw the name and the figures of a student; return the y of the lower edge."""
        width, height = _CARD
        self.line(centre, y - _HIGH + _BOX[1], centre, y)
        self._rectangle(centre - width / 2, y, width, height, "name")
        self._text(centre, y + 22, name, "text big")
        for row, figure in enumerate(figures):
            self._text(centre, y + 42 + 17 * row, figure, "text")
        return y + height

    def bracket(self, begin: float, end: float, text: str) -> None:
        """Label a part of the trunk with the students that contain it."""
        y = _TRUNK_Y - 30
        self.parts.append(f'<path class="line" d="M{begin:g} {y + 7:g}V{y:g}H{end:g}V{y + 7:g}"/>')
        self._text((begin + end) / 2, y - 9, text, "text")

    def line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Draw a line."""
        self.parts.append(f'<path class="line" d="M{x1:g} {y1:g}L{x2:g} {y2:g}"/>')

    def document(self, width: float, bottom: float, note: str) -> str:
        """Return the SVG document, with a legend at the bottom."""
        y, height = bottom + 42, bottom + 84
        self._rectangle(_MARGIN, y - 12, 16, 14, "trunk", radius=3)
        self._text(_MARGIN + 24, y, "the trunk: every student keeps it up to its exit", "faint", anchor="start")
        self._rectangle(_MARGIN + 312, y - 12, 16, 14, "own", radius=3)
        self._text(_MARGIN + 336, y, "a student's own", "faint", anchor="start")
        self._plus(_MARGIN + 448, y - 4)
        self._text(_MARGIN + 460, y, "a block's input is added", "faint", anchor="start")
        self._text(_MARGIN, y + 24, note, "text", anchor="start")
        self.parts.insert(
            0, f'<rect class="card" x=".5" y=".5" width="{width - 1:g}" height="{height - 1:g}" rx="10"/>'
        )
        body = "\n".join(self.parts)
        title = "A family of students: one trunk, an exit and a tail of its own for each."
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" role="img">\n<title>{title}</title>\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
        )

    def _plus(self, x: float, y: float) -> None:
        self.parts.append(f'<circle class="plus" cx="{x:g}" cy="{y:g}" r="6"/>')
        self.parts.append(f'<path class="line" d="M{x - 3.5:g} {y:g}H{x + 3.5:g}M{x:g} {y - 3.5:g}V{y + 3.5:g}"/>')

    def _box(self, x: float, y: float, style: str, lines: tuple[str, str]) -> None:
        self._rectangle(x, y, *_BOX, style)
        for row, text in enumerate(lines):
            self._text(x + _BOX[0] / 2, y + 17 + 15 * row, text, "faint small" if row else "text")

    def _rectangle(self, x: float, y: float, width: float, height: float, style: str, radius: int = 6) -> None:
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self.parts.append(f'<rect class="{style}" {place} rx="{radius}" stroke-width="1.2"/>')

    def _text(self, x: float, y: float, text: str, style: str, anchor: str = "middle") -> None:
        place = "" if anchor == "middle" else f' style="text-anchor:{anchor}"'
        self.parts.append(f'<text class="{style}" x="{x:g}" y="{y:g}"{place}>{escape(text)}</text>')
