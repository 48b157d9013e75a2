# SPDX-License-Identifier: Apache-2.0
import errno
import os

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from learn2compress.components.beam.options import direct_runner_args, find_user_error, user_errors
from learn2compress.schemas.errors import DataError, OutputError, TeacherError


class Fail(beam.DoFn):
    """Raises the error of a given name; runs in this process only, since others cannot import a test's module."""

    def process(self, kind):
        from learn2compress.schemas import errors

        if kind == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")
        if kind == "ours":
            raise KeyError("a fault of ours")
        try:
            raise ValueError("the cause")
        except ValueError as error:
            raise getattr(errors, kind)("file x.png must be whole; got half of it. Copy it anew.") from error


def run(kind: str) -> None:
    with user_errors(), beam.Pipeline(argv=direct_runner_args(1)) as pipeline:
        _ = pipeline | beam.Create([kind]) | beam.Reshuffle() | beam.ParDo(Fail())


def test_user_errors_raises_the_error_of_a_worker():
    with pytest.raises(DataError, match=r"^file x.png must be whole; got half of it. Copy it anew\.$") as caught:
        run("DataError")
    assert type(caught.value) is DataError
    assert caught.value.__cause__ is not None


def test_user_errors_keeps_the_class():
    with pytest.raises(TeacherError, match=r"^file x.png must be whole; .* anew\.$"):
        run("TeacherError")


def test_user_errors_raises_an_output_error_when_the_disk_is_full():
    with pytest.raises(OutputError, match=r"^the disk must have room for the output; got: No space left on device"):
        run("full")


def test_user_errors_raises_an_internal_error_unchanged():
    with pytest.raises(KeyError, match="a fault of ours"):
        run("ours")


def test_find_user_error_finds_it_in_the_text_of_a_traceback():
    text = (
        "Traceback (most recent call last):\n"
        '  File "x.py", line 3, in process\n'
        "learn2compress.schemas.errors.DataError: it must be so; got not. [while running 'Read'] [while running 'P']\n"
        "more of the runner's words"
    )
    assert str(find_user_error(RuntimeError(text))) == "it must be so; got not."
    assert find_user_error(RuntimeError("learn2compress.schemas.errors.Unknown: x")) is None


def test_direct_runner_args_name_a_runner_that_downloads_nothing(monkeypatch):
    monkeypatch.setattr("sys.executable", "/venv/bin/python")
    pipeline = beam.Pipeline(argv=direct_runner_args(1))
    assert isinstance(pipeline.runner, FnApiRunner)
    assert "--direct_running_mode=in_memory" in direct_runner_args(1)
    assert "--direct_running_mode=multi_processing" in direct_runner_args(3)
    assert "--direct_num_workers=3" in direct_runner_args(3)


def test_direct_runner_args_use_one_process_when_the_path_of_python_has_a_blank(monkeypatch, caplog):
    monkeypatch.setattr("sys.executable", "/my project/.venv/bin/python")
    assert direct_runner_args(3) == direct_runner_args(1)
    assert "whose path has a blank (/my project/.venv/bin/python)" in caplog.text
