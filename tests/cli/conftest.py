# SPDX-License-Identifier: Apache-2.0
"""Runs written without TFX, for the commands that read their records."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture
def make_run(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> type:
    """Writes the artifacts and records of a run, as the real nodes leave them (tests/pipeline/synthetic.py)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    name = "lineage_tests_synthetic"
    if name not in sys.modules:
        path = Path(__file__).parent.parent / "pipeline" / "synthetic.py"
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name].SyntheticRun
