# SPDX-License-Identifier: Apache-2.0
"""Tests the progress lines of long work without a terminal, as in a log file or a pipe."""

import io
import sys

import pytest

from learn2compress.api import terminal as module
from learn2compress.components.teacher_importer import tell_known_validation
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


def test_screen_rewrites_the_lines_of_epochs_in_place_on_a_terminal(monkeypatch, tmp_path, capfd):
    screen = module.Screen()
    monkeypatch.setattr(screen.console, "_force_terminal", True)
    with (tmp_path / "run.log").open("w") as log, screen.writing_to(log):
        for done in (1, 2, 3):
            screen.show_progress(Progress("distilled: epoch", done, 3, f"accuracy 0.{done}", 10.0 * done))
        screen.show_progress(Progress("converting", 1, 2, "small-int8: 7 bytes", 1.0))

    assert "accuracy 0.1" not in (shown := capfd.readouterr().out)
    assert [line.strip() for line in shown.splitlines() if line.strip()] == [
        "distilled: epoch 3/3: accuracy 0.3",
        "converting 1/2: small-int8: 7 bytes",
    ]
    assert [line.strip() for line in (tmp_path / "run.log").read_text().splitlines()] == [
        "distilled: epoch 1/3: accuracy 0.1",
        "distilled: epoch 2/3: accuracy 0.2",
        "distilled: epoch 3/3: accuracy 0.3",
        "converting 1/2: small-int8: 7 bytes",
    ]


def test_screen_prints_each_epoch_when_verbose(monkeypatch, capfd):
    screen = module.Screen("verbose")
    monkeypatch.setattr(screen.console, "_force_terminal", True)
    for done in (1, 2):
        screen.show_progress(Progress("distilled: epoch", done, 2, f"accuracy 0.{done}", 10.0 * done))

    assert capfd.readouterr().out.count("accuracy") == 2


def test_screen_prints_nothing_when_quiet(capfd):
    with module.Screen("quiet") as screen:
        screen.say("Starting")
        screen.show_progress(Progress("distilled: epoch", 1, 2, "accuracy 0.1", 10.0))

    assert capfd.readouterr().out == ""


def test_quiet_output_redirects_streams_that_are_not_the_process_s(monkeypatch, tmp_path):
    notebook = io.StringIO()
    monkeypatch.setattr(sys, "stdout", notebook)
    with module.Screen() as screen, module.quiet_output(tmp_path / "run.log"):
        print("of a library")
        screen.say("of the run")

    assert sys.stdout is notebook
    assert notebook.getvalue() == "of the run\n"
    assert (tmp_path / "run.log").read_text() == "of a library\n"


def test_screen_summary_names_a_teacher_that_knows_the_validation_images(make_report, capfd, tmp_path):
    [note] = tell_known_validation({"validation": 1.0, "test": 0.971}, {"validation": 288, "test": 360})
    report = make_report(images=200)[0].model_copy(update={"notes": [f"Teacher: {note}"]})
    with module.Screen() as screen:
        screen.summary(report, tmp_path, tmp_path, tmp_path, 60.0)
    said = (
        "Note: Teacher: it scores 100.0% on validation images and 97.1% on test images: it seems to have been trained"
    )
    assert said in capfd.readouterr().out
