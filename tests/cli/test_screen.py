# SPDX-License-Identifier: Apache-2.0
"""What a person sees of long work where nothing can be drawn: in a log file, a pipe."""

import sys

import pytest

from learn2compress.cli import screen as module
from learn2compress.schemas.progress import Progress


def test_long_work_says_now_and_then_how_far_it_is_where_no_bar_can_be_drawn(monkeypatch, capfd):
    seconds = iter([0.0, 10.0, 31.0, 31.0, 40.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(seconds))
    with module.Screen() as screen:
        for done, spent in ((100, 10.0), (310, 31.0), (400, 40.0)):
            screen.show_progress(Progress("asking the teacher: view", done, 3000, "", spent))

    [line] = capfd.readouterr().out.splitlines()
    assert line.strip() == "asking the teacher: view 310/3000: about 4 min left"


def test_each_epoch_of_a_long_training_says_how_long_it_still_takes(capfd):
    with module.Screen() as screen:
        screen.show_progress(Progress("distilled: epoch", 25, 60, "accuracy small 0.8", 100.0, before=24))
        screen.show_progress(Progress("distilled: epoch", 59, 60, "accuracy small 0.9", 700.0, before=24))

    assert [line.strip() for line in capfd.readouterr().out.splitlines()] == [
        "distilled: epoch 25/60: accuracy small 0.8, about 58 min left",
        "distilled: epoch 59/60: accuracy small 0.9",
    ]


def test_work_that_nobody_knows_the_length_of_draws_no_blank_lines(monkeypatch, capfd):
    seconds = iter([0.0, 1.0, 2.0, 31.0, 31.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(seconds))
    with module.Screen() as screen:
        for done in (1, 2, 3):
            screen.show_progress(Progress("importance of channels: batch", done, None, "", float(done)))
        screen.show_progress(Progress("", 0, None, "channels: all stay", 0.0))

    assert capfd.readouterr().out.splitlines() == ["    importance of channels: batch 3", "    channels: all stay"]


def test_what_libraries_write_is_left_to_the_log_while_bars_are_drawn(monkeypatch):
    before = sys.stdout, sys.stderr
    screen = module.Screen()
    monkeypatch.setattr(screen.console, "_force_terminal", True)
    with screen:
        assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize(("seconds", "text"), [(80.0, "80 s"), (200.0, "3 min")])
def test_time_left_has_a_unit(seconds, text):
    assert module._minutes(seconds) == text
