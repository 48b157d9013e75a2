# SPDX-License-Identifier: Apache-2.0
"""What the tests of lineage share: a real run of a tiny DAG, and runs written without TFX."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest


@dataclass(frozen=True)
class TinyRun:
    """What two runs of the tiny DAG left, the second of them from the cache.

    Attributes:
        out: Holds pipeline/, metadata.db and the teacher.
        records: The paths that write_record returned, in order.
    """

    out: Path
    records: list[str]


def load_beside(name: str) -> ModuleType:
    """Imports a file of this folder, once."""
    full = f"lineage_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


def open_sqlite(path: Path):
    """Opens a SQLite file as a MetadataStore."""
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    return MetadataStore(config)


@pytest.fixture(scope="session")
def tiny_dag() -> ModuleType:
    return load_beside("tiny_dag")


@pytest.fixture(scope="session")
def tiny_run(tiny_dag: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    from learn2compress.pipeline.provenance import write_record

    out = tmp_path_factory.mktemp("tiny")
    (out / "teacher").mkdir()
    (out / "teacher" / "model").write_text("teacher")
    records: list[str] = []

    def record(execution: int) -> None:
        records.append(write_record(open_sqlite(out / "metadata.db"), execution, out / "pipeline"))

    for number in (1, 2):
        tiny_dag.run(out / "pipeline", out / "teacher", out / "metadata.db", f"run-{number}", record)
    return TinyRun(out, records)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def make_run() -> type:
    """Writes the artifacts and records of a run, as the real nodes leave them, without TFX."""
    return load_beside("synthetic").SyntheticRun


@pytest.fixture
def open_store():
    """Opens a SQLite file as a MetadataStore."""
    return open_sqlite
