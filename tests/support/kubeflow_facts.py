# SPDX-License-Identifier: Apache-2.0
"""What was recorded of versions of Kubeflow Pipelines: tests/kubeflow/facts/kfp-VERSION.json."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "kubeflow" / "facts"
VERSIONS = ("2.4", "2.17", "without-mlmd")


def load_facts(version: str) -> dict[str, Any]:
    """The facts of a version: driver, run, log_endpoint …"""
    return json.loads((FOLDER / f"kfp-{version}.json").read_text())
