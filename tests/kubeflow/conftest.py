# SPDX-License-Identifier: Apache-2.0
"""What the tests of the cluster side share: the emulated backend."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load_beside(name: str) -> ModuleType:
    """Imports a file of this folder, once."""
    full = f"kubeflow_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="session")
def load():
    """Imports a file of this folder."""
    return load_beside
