# SPDX-License-Identifier: Apache-2.0
import re
import shutil
from pathlib import Path

import pytest

from learn2compress import __version__
from learn2compress.pipeline import code_version as module
from learn2compress.pipeline.code_version import code_version


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Copies of the packages, which are taken for the installed ones."""
    root = Path(module.__file__).parents[1]
    for package in ("components", "compression", "schemas"):
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module.resources, "files", lambda package: tmp_path / package.split(".")[-1])
    return tmp_path


def test_code_version_is_the_version_and_a_digest():
    assert re.fullmatch(re.escape(__version__) + r"\+[0-9a-f]{12}", code_version())


def test_code_version_is_that_of_the_sources_wherever_they_are(sources):
    inside = code_version()

    (sources / "compression" / "notes.txt").write_text("no source")
    assert code_version() == inside


@pytest.mark.parametrize("package", ["components", "compression", "schemas"])
def test_code_version_changes_with_a_byte_of_a_source(sources, package):
    before = code_version()
    path = next((sources / package).glob("*.py"))

    path.write_text(path.read_text() + "# changed\n")

    assert code_version() != before


def test_code_version_changes_with_a_files_name(sources):
    before = code_version()

    (sources / "compression/losses.py").rename(sources / "compression/lossez.py")

    assert code_version() != before
