# SPDX-License-Identifier: Apache-2.0
"""Short forms of the drill and of the fuzzer; docs/explanation/reliability.md tells of the long ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(script: str, *arguments: str) -> dict:
    result = subprocess.run([sys.executable, SCRIPTS / script, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_drill_breaks_nothing():
    counted = run("drill.py", "--seed", "20")

    assert counted["broken"] == 0
    tried = {kind: counted[kind]["held"] for kind in ("flips", "configs", "records", "bombs", "writes", "fills")}
    full = tried.pop("fills")
    assert tried == {"flips": 60, "configs": 100, "records": 25, "bombs": 8, "writes": 5}
    assert full in (0, 8)  # 0 where no disk can be mounted


@pytest.mark.slow
def test_fuzzer_breaks_nothing_of_what_it_reads():
    counted = run("fuzz.py", "--seed", "20", "--only", "npz", "keras", "csv", "list")

    assert counted["broken"] == 0
    assert counted["npz"]["tried"] == counted["keras"]["tried"] == 200
