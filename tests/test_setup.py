# SPDX-License-Identifier: Apache-2.0
"""The set-up script on machines that are not this one: their PATH holds only what a test puts there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("bash", "cat", "cksum", "cp", "dirname", "grep", "head", "mkdir", "mktemp", "rm", "sed", "sort")

# Answers the probe as a Python of that version would.
PYTHON = """#!/bin/sh
case "$*" in --version) echo Python {0}.9 ;; *"import bz2"*) echo ok {0}.9 ;; esac
"""
SHIM = """#!/bin/sh
echo "pyenv: python3.10: command not found" >&2
exit 127
"""
# Notes how it was called; makes an environment that holds a python and nothing else.
UV = """#!/bin/sh
echo "$@" >> "{calls}"
case "$1" in
    --version) echo uv 0.9.9 ;;
    venv) mkdir -p .venv/bin; : > .venv/pyvenv.cfg; cp "{fake}" .venv/bin/python ;;
    python) echo "uv: no network" >&2; exit 1 ;;
esac
"""


class Machine:
    """A pretended machine: its PATH, its home folder, and the project in a folder with spaces in its name."""

    def __init__(self, folder: Path, system: str = "Linux x86_64", libc: str | None = "glibc 2.36") -> None:
        self.bin = folder / "bin"
        self.home = folder / "home"
        self.project = folder / "another name, with spaces"
        self.calls = folder / "uv-calls"
        for path in (self.bin, self.home, self.project / "requirements"):
            path.mkdir(parents=True)
        shutil.copytree(ROOT / "scripts", self.project / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "requirements/py310-tfx1.16.txt", "requirements/py313-tfx1.21.txt"):
            shutil.copy(ROOT / name, self.project / name)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        kernel, machine = system.split()
        self.put(self.bin / "uname", f'#!/bin/sh\n[ "$1" = -s ] && echo {kernel} || echo {machine}\n')
        self.put(self.bin / "getconf", f"#!/bin/sh\necho {libc}\n" if libc else "#!/bin/sh\nexit 1\n")
        self.put(self.bin / "c++", "#!/bin/sh\n")
        self.put(folder / "fake", "#!/bin/sh\nexit 0\n")
        self.put(self.bin / "uv", UV.format(calls=self.calls, fake=folder / "fake"))

    @staticmethod
    def put(path: Path, program: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(program)
        path.chmod(0o755)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.bin), "HOME": str(self.home), **variables}
        return subprocess.run(
            [str(self.bin / "bash"), *command],
            cwd=self.project,
            env=environment,
            capture_output=True,
            text=True,
        )

    def setup(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs the set-up from the beginning; what it asks of uv is in `self.uv_calls()` afterwards."""
        self.calls.write_text("")
        return self.run("scripts/setup.sh", **variables)

    def uv_calls(self) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line != "--version"]


def wanted(machine: Machine) -> subprocess.CompletedProcess[str]:
    return machine.run("-c", ". scripts/python.sh; wanted_versions")


@pytest.mark.parametrize(
    ("system", "libc", "versions"),
    [
        ("Linux x86_64", "glibc 2.36", "3.10"),
        ("Linux x86_64", "glibc 2.39", "3.10 3.13 3.12"),
        ("Linux x86_64", "glibc 2.41", "3.10 3.13 3.12"),
        ("Darwin arm64", None, "3.13 3.12"),
    ],
)
def test_setup_wants_the_pythons_that_have_wheels(tmp_path: Path, system: str, libc: str, versions: str) -> None:
    assert wanted(Machine(tmp_path, system, libc)).stdout.strip() == versions


@pytest.mark.parametrize(
    ("system", "libc", "message"),
    [
        ("Linux aarch64", "glibc 2.41", "must be Linux x86_64 or macOS arm64, .*; got: Linux aarch64"),
        ("Darwin x86_64", None, "must be Linux x86_64 or macOS arm64, .*; got: Darwin x86_64"),
        ("Linux x86_64", None, "must be glibc 2.28 or newer, .*; got: none"),
        ("Linux x86_64", "glibc 2.17", "must be glibc 2.28 or newer, .*; got: glibc 2.17"),
    ],
)
def test_setup_refuses_a_machine_without_wheels(tmp_path: Path, system: str, libc: str, message: str) -> None:
    machine = Machine(tmp_path, system, libc)
    machine.put(machine.bin / "python3.10", PYTHON.format("3.10"))

    done = machine.setup()

    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert machine.uv_calls() == []


def test_setup_passes_over_a_shim_that_does_not_run(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.put(machine.bin / "python3.10", SHIM)
    machine.put(machine.home / ".pyenv/versions/3.10.9/bin/python3.10", PYTHON.format("3.10"))

    done = machine.setup()

    assert done.returncode == 0, done.stderr
    assert f"{machine.home}/.pyenv/versions/3.10.9/bin/python3.10" in machine.uv_calls()[0]


def test_setup_takes_the_current_stack_where_only_a_new_python_is(tmp_path: Path) -> None:
    machine = Machine(tmp_path, libc="glibc 2.41")
    machine.put(machine.bin / "python3", PYTHON.format("3.13"))

    done = machine.setup()

    assert done.returncode == 0, done.stderr
    venv, sync, editable = machine.uv_calls()
    assert venv.startswith("venv ")
    assert "--require-hashes" in sync
    assert sync.endswith("requirements/py313-tfx1.21.txt")
    assert "--no-deps --no-build-isolation --editable ." in editable


def test_setup_names_what_it_tried_and_the_remedy_when_there_is_no_python(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.put(machine.bin / "python3", PYTHON.format("3.11"))
    machine.put(machine.bin / "python3.10", SHIM)

    done = machine.setup()

    assert done.returncode == 2
    assert f"{machine.bin}/python3 is Python 3.11.9" in done.stderr
    assert f"{machine.bin}/python3.10 does not run: pyenv: python3.10: command not found" in done.stderr
    assert "LEARN2COMPRESS_PYTHON=" in done.stderr
    assert machine.uv_calls() == ["python install 3.10"]


def test_setup_refuses_an_override_of_another_version(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.put(tmp_path / "mine", PYTHON.format("3.13"))

    done = machine.setup(LEARN2COMPRESS_PYTHON=str(tmp_path / "mine"))

    assert done.returncode == 2
    assert f"must be a Python of version 3.10 here; {tmp_path}/mine is Python 3.13.9" in done.stderr


def test_setup_asks_for_a_compiler_before_it_downloads(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.put(machine.bin / "python3.10", PYTHON.format("3.10"))
    (machine.bin / "c++").unlink()

    done = machine.setup()

    assert done.returncode == 2
    assert "a C++ compiler must be there" in done.stderr
    assert machine.uv_calls() == []


def test_setup_leaves_something_else_called_venv_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.put(machine.bin / "python3.10", PYTHON.format("3.10"))
    (machine.project / ".venv").mkdir()
    (machine.project / ".venv/precious").write_text("mine")

    done = machine.setup()

    assert done.returncode == 2
    assert ".venv must be a virtual environment or not be there" in done.stderr
    assert (machine.project / ".venv/precious").read_text() == "mine"


class TestSecondRun:
    @pytest.fixture
    def machine(self, tmp_path: Path) -> Machine:
        machine = Machine(tmp_path)
        machine.put(machine.bin / "python3.10", PYTHON.format("3.10"))
        first = machine.setup()
        assert first.returncode == 0, first.stderr
        assert len(machine.uv_calls()) == 3
        return machine

    def test_setup_does_nothing_when_nothing_changed(self, machine: Machine) -> None:
        done = machine.setup()

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert machine.uv_calls() == []

    def test_setup_installs_again_when_the_project_file_changed(self, machine: Machine) -> None:
        with (machine.project / "pyproject.toml").open("a") as file:
            file.write("# changed\n")

        assert machine.setup().returncode == 0
        assert [call.split()[0] for call in machine.uv_calls()] == ["pip", "pip"]
        assert machine.setup().returncode == 0
        assert machine.uv_calls() == []

    def test_setup_makes_the_environment_anew_when_the_folder_moved(self, machine: Machine) -> None:
        moved = machine.project.with_name("moved")
        machine.project.rename(moved)
        machine.project = moved

        assert machine.setup().returncode == 0
        assert [call.split()[0] for call in machine.uv_calls()] == ["venv", "pip", "pip"]

    def test_setup_makes_the_environment_anew_when_another_python_is_named(self, machine: Machine) -> None:
        machine.put(machine.home / "mine", PYTHON.format("3.10"))

        assert machine.setup(LEARN2COMPRESS_PYTHON=str(machine.home / "mine")).returncode == 0
        assert str(machine.home / "mine") in machine.uv_calls()[0]


def test_probe_accepts_the_python_that_runs_this_test() -> None:
    command = ["bash", "-c", '. scripts/python.sh; probe "$1"', "bash", sys.executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == f"ok {sys.version.split()[0]}"
