# SPDX-License-Identifier: Apache-2.0
import logging

import pytest

from learn2compress.schemas import progress
from learn2compress.schemas.progress import Progress, Task, listening, say


def test_task_counts_units_and_informs_the_listener():
    seen = []

    with listening(seen.append):
        task = Task("cleaning", 5)
        task.advance()
        task.advance(3, detail="nearly")

    assert [(p.task, p.done, p.total, p.detail) for p in seen] == [("cleaning", 1, 5, ""), ("cleaning", 4, 5, "nearly")]
    assert 0 <= seen[0].seconds <= seen[1].seconds


def test_listening_ends_with_its_block_and_can_be_nested():
    outer, inner = [], []

    def work() -> None:
        with listening(inner.append):
            say("in")
            raise ValueError("stop")

    with listening(outer.append):
        with pytest.raises(ValueError, match="stop"):
            work()
        say("out")

    assert [p.detail for p in inner] == ["in"]
    assert [p.detail for p in outer] == ["out"]


def test_say_sends_each_line():
    seen = []

    with listening(seen.append):
        say("one\ntwo")

    assert [(p.task, p.total, p.detail) for p in seen] == [("", None, "one"), ("", None, "two")]


@pytest.mark.parametrize(
    ("done", "total", "left"), [(0, 4, None), (1, None, None), (1, 4, 30.0), (3, 4, 10 / 3), (4, 4, 0.0)]
)
def test_seconds_left_are_estimated_from_the_speed_so_far(done, total, left):
    assert Progress("t", done, total, "", 10.0).seconds_left == (None if left is None else pytest.approx(left))


def test_seconds_left_ignore_units_finished_before():
    seen = []
    with listening(seen.append):
        Task("epoch", 60, before=24).advance()

    assert (seen[0].done, seen[0].total) == (25, 60)
    assert seen[0].seconds_left == pytest.approx(seen[0].seconds * 35)
    assert Progress("epoch", 24, 60, "", 100.0, before=24).seconds_left is None


def test_default_listener_logs_details_and_other_progress_every_ten_seconds(caplog, monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    listener = progress._LogNowAndThen()
    with caplog.at_level(logging.INFO, "learn2compress"), listening(listener):
        for second, detail in ((100.0, ""), (101.0, ""), (102.0, "epoch done"), (111.0, ""), (113.0, "")):
            now = second
            listener(Progress("training", int(second - 99), 20, detail, second))

    assert [record.getMessage() for record in caplog.records] == [
        "training 1/20 ",
        "training 3/20 epoch done",
        "training 14/20 ",
    ]
