# SPDX-License-Identifier: Apache-2.0
"""Tests that help is fast, that user errors print one line, and that exit statuses are as documented."""

import errno
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from learn2compress.cli.main import app, main
from learn2compress.schemas.errors import SelectionError

CONFIG = "teacher: {path: teacher.keras}\ndata: {path: images}\n"


def run(capfd, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    captured = capfd.readouterr()
    return stop.value.code, captured.out, captured.err


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom learn2compress.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'keras', 'numpy', 'pydantic', 'pygments'}\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert "run" in result.stdout


def test_main_without_a_command_tells_what_to_do_next(capfd):
    status, out, _ = run(capfd)

    assert status == 0
    assert "learn2compress compress my_model.keras my_images/" in out
    assert "learn2compress --help" in out


def test_main_completes_commands_in_a_shell(capfd, monkeypatch):
    for name, value in (("COMPLETE", "complete_bash"), ("WORDS", "learn2compress comp"), ("CWORD", "1")):
        monkeypatch.setenv("_LEARN2COMPRESS_COMPLETE" if name == "COMPLETE" else f"COMP_{name}", value)

    _, out, _ = run(capfd)

    assert out.split() == ["compress", "compile"]


def test_run_refuses_quiet_and_verbose_together(capfd, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    status, _, error = run(capfd, "run", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "o"), "-q", "-v")

    assert status == 2
    assert "--quiet must be given without --verbose" in error


def test_main_exits_2_on_an_unknown_command(capfd):
    status, _, error = run(capfd, "compres")
    assert status == 2
    assert "No such command 'compres'" in error
    assert "Traceback" not in error


def test_main_exits_2_on_a_missing_argument(capfd):
    status, _, error = run(capfd, "run")
    assert status == 2
    assert "Missing argument" in error or "Missing parameter" in error


def test_main_prints_one_line_and_exits_2_on_a_user_error(capfd, tmp_path):
    status, _, error = run(capfd, "run", str(tmp_path / "none.yaml"), "--output", str(tmp_path / "out"))
    assert status == 2
    assert error.count("\n") == 1
    assert "none.yaml must be a readable file" in error
    assert "learn2compress init" in error


def test_main_exits_with_the_status_of_the_error(capfd, monkeypatch):
    command = next(c for c in app.registered_commands if c.name == "init")

    def refuse() -> None:
        raise SelectionError("no candidate satisfies the limits.")

    monkeypatch.setattr(command, "callback", refuse)
    status, _, error = run(capfd, "init")
    assert status == 3
    assert error == "learn2compress: no candidate satisfies the limits.\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("/out/x.gz; No space left on device [Op:WriteFile]"),
        RuntimeError("database or disk is full"),
        RuntimeError("can't flush: file write failed: errno = 28, error message = ''"),
    ],
)
def test_main_prints_one_line_and_exits_2_when_the_disk_is_full(capfd, monkeypatch, error):
    command = next(c for c in app.registered_commands if c.name == "init")

    def fail() -> None:
        raise ValueError("told of by another") from error

    monkeypatch.setattr(command, "callback", fail)
    status, _, printed = run(capfd, "init")

    assert status == 2
    assert printed.count("\n") == 1
    assert "the disk must have room for the output; got: " in printed
    assert "the same command then goes on" in printed


def test_main_shows_the_traceback_of_an_internal_error(monkeypatch):
    command = next(c for c in app.registered_commands if c.name == "init")

    def fail() -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(command, "callback", fail)
    with pytest.raises(ZeroDivisionError, match="ours"):
        main(["init"])


def test_run_refuses_an_output_folder_with_other_files(capfd, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    status, _, error = run(capfd, "run", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "out"))
    assert status == 2
    assert "must be a new folder or an earlier run's" in error
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_run_refuses_an_output_folder_of_another_pipeline(capfd, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text('{"pipeline": "flowers"}')
    status, _, error = run(capfd, "run", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "out"))
    assert status == 2
    assert "must belong to pipeline 'learn2compress'; it holds a run of 'flowers'" in error


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (None, "TF_CONFIG must be set for distill.strategy multi_worker; it is not."),
        (["a:1", "b:2", "c:3"], "a batch must be divisible by the 3 replicas that train together; got 128 images."),
    ],
)
def test_run_refuses_invalid_worker_settings_before_starting(capfd, tmp_path, monkeypatch, workers, message):
    (tmp_path / "c.yaml").write_text(CONFIG)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if workers:
        task = {"type": "worker", "index": 0}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": workers}, "task": task}))

    output = tmp_path / "out"
    status, _, error = run(
        capfd, "run", str(tmp_path / "c.yaml"), "-o", str(output), "--set", "distill.strategy=multi_worker"
    )

    assert status == 2
    assert error.startswith(f"learn2compress: {message}")
    assert not output.exists()


@pytest.mark.parametrize(("options", "expected"), [([], 3), (["--allow-near-chance"], 0)])
def test_run_exits_3_when_the_chosen_file_is_near_chance(capfd, tmp_path, monkeypatch, options, expected):
    from learn2compress.api import running

    (tmp_path / "c.yaml").write_text("teacher: {path: t.keras}\ndata: {path: digits}\n")
    monkeypatch.setattr(running, "run", lambda *_, **__: SimpleNamespace(is_near_chance=True))

    status, _, _ = run(capfd, "run", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "out"), *options)

    assert status == expected


def test_main_frees_models_before_the_process_ends():
    code = (
        "import atexit, gc, sys, types\nfrom learn2compress.cli.main import main\n"
        "gc.disable()\natexit.register(print, 'end')\n"
        "sys.modules['tensorflow'] = types.ModuleType('tensorflow')\n"
        "class Function:\n"
        "    def __init__(self): self.itself = self\n"
        "    def __del__(self): print('freed')\n"
        "Function()\n"
        "main(['--version'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-2:] == ["freed", "end"]
