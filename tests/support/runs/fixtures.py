# SPDX-License-Identifier: Apache-2.0
"""Provides runs for the tests of lineage: a real run of a tiny DAG, and synthetic runs without TFX."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest


@dataclass(frozen=True)
class TinyRun:
    """The outputs of two runs of the tiny DAG, of which the second was served from the cache.

    Attributes:
        out: Folder with pipeline/, metadata.db and the teacher.
        records: Paths that write_record returned, in order.
    """

    out: Path
    records: list[str]


def open_sqlite(path: Path):
    """Opens a SQLite file as a MetadataStore."""
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    return MetadataStore(config)


@pytest.fixture(scope="session")
def tiny_dag() -> ModuleType:
    from support.runs import tiny_dag

    return tiny_dag


@pytest.fixture(scope="session")
def tiny_run(tiny_dag: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    from learn2compress.lineage.records.provenance import write_record

    out = tmp_path_factory.mktemp("tiny")
    (out / "teacher").mkdir()
    (out / "teacher" / "model").write_text("teacher")
    records: list[str] = []

    def record(execution: int) -> None:
        records.append(write_record(open_sqlite(out / "metadata.db"), execution, out / "pipeline"))

    for number in (1, 2):
        tiny_dag.run(out / "pipeline", out / "teacher", out / "metadata.db", f"run-{number}", record)
    return TinyRun(out, records)


@pytest.fixture
def make_run(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> type:
    """Class that writes the artifacts and records of a run like the real nodes, without TFX, with a separate index."""
    from support.runs.synthetic import SyntheticRun

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return SyntheticRun


@pytest.fixture
def open_store():
    """Opens a SQLite file as a MetadataStore."""
    return open_sqlite
