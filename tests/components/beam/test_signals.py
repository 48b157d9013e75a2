# SPDX-License-Identifier: Apache-2.0
"""What workers tell the step, when a bundle is tried again or done twice."""

import errno
import os

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from learn2compress.components.beam.exchange import Exchange
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.beam.signals import Signals, Worker
from learn2compress.schemas.errors import DataError, OutputError
from learn2compress.schemas.progress import listening

TRIES = 5


class Stumble(Worker):
    """Fails on some elements; counts the attempts."""

    def __init__(self, signals, errors):
        self.signals, self.errors, self.attempts = signals, errors, 0

    def work(self, element):
        self.attempts += 1
        if element in self.errors:
            raise self.errors[element]
        yield element
        self.signals.tell_done(f"element-{element}")


def engine(worker, elements):
    """Processes elements as an engine does that tries a failed bundle again, and gives up in the end."""
    for attempt in range(TRIES):
        try:
            return [found for element in elements for found in worker.process(element)]
        except Exception:
            if attempt == TRIES - 1:
                raise
    raise AssertionError


@pytest.fixture
def signals(tmp_path):
    return Signals(str(tmp_path / "signals"))


def run(signals, worker, elements, runner=None, progress="working", **options):
    pipeline = beam.Pipeline(runner=runner, **options) if runner else beam.Pipeline(argv=direct_runner_args(1))
    units = {f"element-{element}": 1 for element in elements}
    with signals.running(pipeline, Exchange(None), progress, units):
        _ = pipeline | beam.Create(elements, reshuffle=False) | beam.ParDo(worker)


def test_user_error_is_not_tried_again_and_the_rest_is_skipped(signals):
    worker = Stumble(signals, {2: DataError("image 2 must be whole; got half. Copy it anew.")})

    assert engine(worker, [1, 2, 3, 4]) == [1]
    assert worker.attempts == 2
    assert str(signals.find_error()) == "image 2 must be whole; got half. Copy it anew."


def test_full_disk_is_not_tried_again(signals):
    worker = Stumble(signals, {1: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))})

    assert engine(worker, [1]) == []
    assert worker.attempts == 1
    assert isinstance(signals.find_error(), OutputError)


def test_another_error_is_tried_again(signals):
    worker = Stumble(signals, {1: ConnectionError("lost")})

    with pytest.raises(ConnectionError, match="lost"):
        engine(worker, [1])
    assert worker.attempts == TRIES
    assert signals.find_error() is None


def test_running_raises_the_recorded_error_with_its_class_and_leaves_nothing(signals, tmp_path):
    with pytest.raises(DataError, match=r"^label 7 must be below 3; got 7\. Correct it\.$"):
        run(signals, Stumble(signals, {2: DataError("label 7 must be below 3; got 7. Correct it.")}), [1, 2, 3])
    assert list(tmp_path.iterdir()) == []


def test_of_several_errors_the_same_one_is_raised_each_time(signals):
    for message in ("b must be so.", "a must be so."):
        signals.tell_error(DataError(message))

    assert str(signals.find_error()) == "a must be so."


def test_error_of_an_earlier_attempt_is_forgotten(signals):
    signals.tell_error(DataError("old"))

    run(signals, Stumble(signals, {}), [1])
    assert signals.find_error() is None


def test_progress_counts_a_piece_once_though_it_is_done_twice(signals):
    seen = []
    with listening(seen.append):
        run(signals, Stumble(signals, {}), [1, 2, 3], runner=FnApiRunner(bundle_repeat=1))

    assert [(one.task, one.done, one.total) for one in seen][-1] == ("working", 3, 3)
