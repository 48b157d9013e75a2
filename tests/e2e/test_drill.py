# SPDX-License-Identifier: Apache-2.0
"""A short form of the drill; docs/explanation/reliability.md tells of the long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DRILL = Path(__file__).parents[2] / "scripts" / "drill.py"


@pytest.mark.slow
def test_drill_breaks_nothing():
    result = subprocess.run([sys.executable, DRILL, "--seed", "20"], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    counted = json.loads(result.stdout.splitlines()[-1])
    assert counted["broken"] == 0
    assert {kind: counted[kind]["held"] for kind in ("kills", "flips", "configs", "records", "bombs")} == {
        "kills": 5, "flips": 60, "configs": 100, "records": 25, "bombs": 8,
    }  # fmt: skip
