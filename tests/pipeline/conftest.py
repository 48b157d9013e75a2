# SPDX-License-Identifier: Apache-2.0
"""Gives each test its own cache of indexes; the latencies of this machine are measured once for all tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def _latencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("latency")


@pytest.fixture(autouse=True)
def _own_cache(_latencies: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path_factory.mktemp("cache")
    (cache / "learn2compress").mkdir()
    (cache / "learn2compress" / "latency").symlink_to(_latencies)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
