# SPDX-License-Identifier: Apache-2.0
"""Replaying records that hold a Python module, or that were changed."""

from pathlib import Path

import pytest
import typer

from learn2compress.api import replaying
from learn2compress.cli import replay
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.module_source import ModuleSource

SOURCE = ModuleSource("mine.py", "build", "def build(input_shape, classes):\n    return {}\n")


@pytest.fixture
def recorded(make_run, tmp_path: Path, monkeypatch):
    """A run whose last Quantizer was given a module; replaying it does nothing but say so."""
    run = make_run(tmp_path / "recorded")
    files = {"x.tflite": b"TFL3 of a module"}
    run.node("Quantizer", [], {"models": ("learn2compress.OnDeviceModelSet", files)}, SOURCE.to_parameters())

    def replayed(*_):
        raise LineageError("it was replayed")

    monkeypatch.setattr(replaying, "_replay", replayed)
    return run


def command(run, tmp_path: Path, *options: str):
    return ("replay", run.path("Quantizer.models", "x.tflite"), "--output", tmp_path / "again", *options)


def test_replay_runs_no_recorded_module_unless_it_is_trusted(recorded, tmp_path: Path, type_in, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    status, _, told = type_in(*command(recorded, tmp_path))

    assert status == 2
    assert "the Python module 'mine.py' of pipeline" in told
    assert "not signed, must be trusted to be run. Read module_text in that record, then add --trust." in told
    assert type_in(*command(recorded, tmp_path, "--trust"))[2] == "learn2compress: it was replayed\n"


@pytest.mark.parametrize(("agrees", "expected"), [(True, "it was replayed"), (False, "Interrupted")])
def test_replay_shows_the_module_and_asks(recorded, tmp_path: Path, type_in, monkeypatch, agrees, expected) -> None:
    def confirm(question: str, **_) -> bool:
        assert question == "Run it?"
        if not agrees:
            raise typer.Abort
        return True

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", confirm)

    _, _, told = type_in(*command(recorded, tmp_path))

    assert SOURCE.text in told
    assert expected in told


@pytest.mark.usefixtures("recorded")
def test_replay_refuses_changed_records_trusted_or_not(make_run, tmp_path: Path, type_in) -> None:
    run = make_run(tmp_path / "changed")
    record = tmp_path / "changed" / run.records["Distiller"]
    record.write_bytes(record.read_bytes().replace(b"30", b"31", 1))
    model = run.path("Quantizer.models", "large-int8.tflite")

    status, _, told = type_in("replay", model, "--output", tmp_path / "again", "--trust")

    assert status == 4
    assert "was changed" in told
    assert "it was replayed" not in told


def test_replay_shows_signs_that_would_hide_a_part_of_the_module() -> None:
    text = "safe = 1\x1b[2K\r  # \u202eod\nx\ty = 'é'\x85"

    assert replay._visible(text) == "safe = 1\\x1b[2K\\r  # \\u202eod\nx\ty = 'é'\\x85"
