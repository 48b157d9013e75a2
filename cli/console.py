# SPDX-License-Identifier: Apache-2.0
"""A console for text that others wrote: names of files, values of records, descriptions of models."""

import unicodedata
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment


class PlainConsole(Console):
    """Leaves out control characters, so that a text cannot move the cursor, colour or retitle the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of something to print, without control characters but line breaks."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_plain(segment.text), segment.style)


def _plain(text: str) -> str:
    if text.isprintable() or text == "\n":
        return text
    return "".join(sign for sign in text if sign == "\n" or unicodedata.category(sign) != "Cc")
