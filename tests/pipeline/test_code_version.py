# SPDX-License-Identifier: Apache-2.0
import re
import shutil

import pytest
from ml_metadata.proto.metadata_store_pb2 import Execution

from learn2compress import __version__
from learn2compress.lineage.records import versions
from learn2compress.pipeline.code_version import code_version

PACKAGES = ("components", "compression", "data", "evaluation", "modalities", "schemas", "storage", "tflite")


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Copies the packages, and uses the copies as the installed ones."""
    root = tmp_path / "sources"
    for package in PACKAGES:
        (folder,) = versions.package_folders(package)
        shutil.copytree(folder, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "components" / "nested" / "deeper").mkdir(parents=True)
    (root / "components" / "nested" / "deeper" / "node.py").write_text("ANSWER = 1\n")
    monkeypatch.setattr(versions, "package_folders", lambda package: [str(root / package)])
    return root


def test_code_version_is_the_version_and_a_digest():
    assert re.fullmatch(re.escape(__version__) + r"\+[0-9a-f]{12}", code_version())


def test_code_version_is_the_same_at_another_location(sources):
    inside = code_version()

    (sources / "compression" / "notes.txt").write_text("no source")
    assert code_version() == inside


@pytest.mark.parametrize("package", PACKAGES)
def test_code_version_changes_with_a_byte_of_a_source(sources, package):
    before = code_version()
    path = next((sources / package).rglob("*.py"))

    path.write_text(path.read_text() + "# changed\n")

    assert code_version() != before


def test_code_version_changes_with_the_name_of_a_file(sources):
    before = code_version()

    (sources / "compression/training/losses.py").rename(sources / "compression/lossez.py")

    assert code_version() != before


def test_code_version_changes_with_a_nested_file(sources):
    before = code_version()

    (sources / "components/nested/deeper/node.py").write_text("ANSWER = 2\n")

    assert code_version() != before


def test_cache_is_missed_when_a_nested_file_changes(sources, tiny_dag, open_store, tmp_path):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "model").write_text("teacher")
    database = tmp_path / "metadata.db"

    def state_of_first_node(run_id):
        executions = []
        places = (tmp_path / "pipeline", tmp_path / "teacher", database)
        tiny_dag.run(*places, run_id, executions.append, text=code_version())
        (execution,) = open_store(database).get_executions_by_id(executions[:1])
        return execution.last_known_state

    assert state_of_first_node("run-1") == Execution.COMPLETE
    assert state_of_first_node("run-2") == Execution.CACHED
    (sources / "components/nested/deeper/node.py").write_text("ANSWER = 2\n")
    assert state_of_first_node("run-3") == Execution.COMPLETE
