# SPDX-License-Identifier: Apache-2.0
import io

from rich.table import Table
from rich.text import Text

from learn2compress.cli.console import PlainConsole


def test_console_prints_no_control_character_of_a_text_and_keeps_its_own():
    stream = io.StringIO()
    console = PlainConsole(file=stream, force_terminal=True, color_system="standard", width=60, highlight=False)
    table = Table("name")
    table.add_row("cell\x1b]0;title\x07")

    console.print("text\x1b[2J\x9b", markup=False)
    console.print(Text.assemble(("bold\x1b[31m", "bold")))
    console.print(table)

    told = stream.getvalue()
    assert "text[2J" in told
    assert "\x1b[1mbold[31m\x1b[0m" in told
    assert "cell]0;title" in told
    assert told.count("\x1b[2J") == told.count("\x1b]") == told.count("\x9b") == 0
