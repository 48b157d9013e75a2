# SPDX-License-Identifier: Apache-2.0
"""Files that are slow to make, made by the first of xdist's workers that needs them, once in a run of the tests."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Gives the folder of that name, for reading; `make` fills it, while other workers wait."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each worker has a folder of its own inside
    folder, partial = root / f"shared-{name}", root / f"shared-{name}-partial"
    with open(root / f"shared-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial.mkdir(exist_ok=True)
            make(partial)
            partial.rename(folder)
    return folder
