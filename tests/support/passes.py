# SPDX-License-Identifier: Apache-2.0
"""Builds and installs a pruning pass in a separate package for a test."""

import importlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "example_pass"


@pytest.fixture(scope="session")
def example_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the wheel of tests/support/example_pass offline with the installed setuptools."""
    folder = tmp_path_factory.mktemp("example_pass")
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture
def example_pass(example_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs the wheel for one test; returns the folder with its modules."""
    target = tmp_path / "site-packages"
    with zipfile.ZipFile(example_wheel) as archive:  # a wheel of Python files is installed by unpacking it
        archive.extractall(target)
    monkeypatch.syspath_prepend(str(target))
    importlib.invalidate_caches()
    yield target
    sys.modules.pop("kernel_grid", None)


@pytest.fixture
def declare_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a distribution that declares passes in a module with the given source."""
    modules: list[str] = []

    def declare(module: str, text: str, distribution: str = "", **passes: str) -> Path:
        target = tmp_path / f"installed-{module}-{len(modules)}"
        about = target / f"{distribution or module}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution or module}\nVersion: 1.0\n")
        entries = "\n".join(f"{name} = {module}:{value}" for name, value in passes.items())
        (about / "entry_points.txt").write_text(f"[learn2compress.passes]\n{entries}\n")
        path = target / f"{module}.py"
        path.write_text(text)
        monkeypatch.syspath_prepend(str(target))
        importlib.invalidate_caches()
        modules.append(module)
        return path

    yield declare
    for module in modules:
        sys.modules.pop(module, None)
