# SPDX-License-Identifier: Apache-2.0
"""Tests the progress lines of long work without a terminal, as in a log file or a pipe."""

import sys

import pytest

from learn2compress.api import terminal as module
from learn2compress.schemas.progress import Progress


def test_screen_prints_a_progress_line_at_intervals_without_a_terminal(monkeypatch, capfd):
    seconds = iter([0.0, 10.0, 31.0, 31.0, 40.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(seconds))
    with module.Screen() as screen:
        for done, spent in ((100, 10.0), (310, 31.0), (400, 40.0)):
            screen.show_progress(Progress("teacher inference: view", done, 3000, "", spent))

    [line] = capfd.readouterr().out.splitlines()
    assert line.strip() == "teacher inference: view 310/3000: about 4 min left"


def test_screen_prints_the_time_left_after_each_epoch(capfd):
    with module.Screen() as screen:
        screen.show_progress(Progress("distilled: epoch", 25, 60, "accuracy small 0.8", 100.0, before=24))
        screen.show_progress(Progress("distilled: epoch", 59, 60, "accuracy small 0.9", 700.0, before=24))

    assert [line.strip() for line in capfd.readouterr().out.splitlines()] == [
        "distilled: epoch 25/60: accuracy small 0.8, about 58 min left",
        "distilled: epoch 59/60: accuracy small 0.9",
    ]


def test_screen_prints_no_blank_lines_when_the_total_is_unknown(monkeypatch, capfd):
    seconds = iter([0.0, 1.0, 2.0, 31.0, 31.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(seconds))
    with module.Screen() as screen:
        for done in (1, 2, 3):
            screen.show_progress(Progress("importance of channels: batch", done, None, "", float(done)))
        screen.show_progress(Progress("", 0, None, "channels: all stay", 0.0))

    assert capfd.readouterr().out.splitlines() == ["    importance of channels: batch 3", "    channels: all stay"]


def test_screen_leaves_library_output_in_the_log(monkeypatch):
    before = sys.stdout, sys.stderr
    screen = module.Screen()
    monkeypatch.setattr(screen.console, "_force_terminal", True)
    with screen:
        assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize(("seconds", "text"), [(80.0, "80 s"), (200.0, "3 min")])
def test_screen_formats_the_time_left_with_a_unit(seconds, text):
    assert module.minutes(seconds) == text
