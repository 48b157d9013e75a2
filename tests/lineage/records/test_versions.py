# SPDX-License-Identifier: Apache-2.0
"""Tests the description of the code in a record."""

import subprocess
from pathlib import Path

import pytest

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

from learn2compress.lineage.records import versions
from learn2compress.schemas.digests import digest_of_tree, file_sha256
from learn2compress.schemas.provenance import TREE


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_git_state_returns_the_commit_of_a_checkout(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")

    assert versions.git_state(checkout / "code.py") == {"commit": commit, "dirty": False}
    (checkout / "code.py").write_text("2")
    assert versions.git_state(checkout / "code.py") == {"commit": commit, "dirty": True}


def test_git_state_is_empty_for_an_untracked_file(checkout: Path) -> None:
    (checkout / "venv").mkdir()
    (checkout / "venv" / "installed.py").write_text("1")

    assert versions.git_state(checkout / "venv" / "installed.py") == {}


def test_git_state_is_empty_outside_a_checkout(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("1")

    assert versions.git_state(tmp_path / "x.py") == {}


def test_source_version_takes_the_commit_of_an_image_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(versions.COMMIT_VARIABLE, "abc123")
    versions.source_version.cache_clear()
    try:
        assert versions.source_version()["commit"] == "abc123"
        assert versions.code_descriptor().digest["gitCommit"] == "abc123"
    finally:
        versions.source_version.cache_clear()


def test_digest_of_the_code_covers_every_package() -> None:
    files = versions.source_files()

    assert {"", *(name.partition("/")[0] for name in files if "/" in name)} == set(versions.SUBPACKAGES)
    assert files["lineage/records/versions.py"] == Path(versions.__file__)
    tree = digest_of_tree({name: file_sha256(path) for name, path in files.items()})
    versions.source_version.cache_clear()
    assert versions.source_version()[TREE] == tree


def test_digest_of_the_code_covers_nested_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "deep" / "deeper" / "node.py").write_text("1")
    monkeypatch.setattr(versions, "package_folders", lambda _: [str(tmp_path)])

    assert versions.source_files(["components"]) == {"components/deep/deeper/node.py": tmp_path / "deep/deeper/node.py"}
    assert versions.source_files([""]) == {}


def test_digest_of_the_code_covers_all_packaged_folders() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())
    packaged = {name.partition(".")[2].partition(".")[0] for name in project["tool"]["setuptools"]["packages"]}

    assert set(versions.SUBPACKAGES) == packaged
