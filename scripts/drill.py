# SPDX-License-Identifier: Apache-2.0
"""Attacks the product and counts what held; docs/explanation/reliability.md describes each kind.

python scripts/drill.py [--kills N] [--disks N] [--writes N] [--fills N] [--flips N] [--configs N] [--records N]
                        [--bombs N] [--seed S]

Each attack prints what was tried, what held, and each case that did not. The last line is JSON. Exit status 1 if
anything was broken. All of it works in a temporary folder.

An attack is broken if a command ends in a traceback or with status 1, takes over a minute of processor time, calls a
damaged folder whole, or calls one tampered that was only interrupted.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

from attacks.bombs import bomb
from attacks.configs import odd_config
from attacks.disks import enter_namespace, fill_disk, fill_run
from attacks.flips import flip
from attacks.kills import kill_runs, make_job
from attacks.records import odd_record
from attacks.running import ROOT, Attack, run_attack
from attacks.writes import kill_writer

sys.path.insert(0, str(ROOT / "tests"))
# Of the short form, which runs no pipeline: the end-to-end tests kill one.
COUNTS = {"flips": 60, "configs": 100, "records": 25, "bombs": 8, "writes": 5, "fills": 8, "kills": 0, "disks": 0}
CHEAP: dict[str, Attack] = {
    "flips": flip, "configs": odd_config, "records": odd_record, "bombs": bomb, "writes": kill_writer,
    "fills": fill_disk,
}  # fmt: skip
MOUNTING = ("fills", "disks")
RUN_SECONDS = 600.0


def main() -> int:
    """Run the attacks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, count in COUNTS.items():
        parser.add_argument(f"--{kind}", type=int, default=count, help=f"how many (default {count})")
    parser.add_argument("--seed", type=int, default=0)
    wanted = vars(parser.parse_args())
    if any(wanted[kind] for kind in MOUNTING) and not enter_namespace():
        print("full disks: not tried, because no tmpfs can be mounted here", flush=True)
        wanted |= dict.fromkeys(MOUNTING, 0)
    began = time.monotonic()
    warnings.simplefilter("ignore")  # of packages that a command imports; here they are imported once for all
    with tempfile.TemporaryDirectory(prefix="drill-home-") as home:
        os.environ["XDG_CACHE_HOME"] = home
        results = {kind: run_attack(kind, attack, wanted[kind], wanted["seed"]) for kind, attack in CHEAP.items()}
        if wanted["kills"] or wanted["disks"]:
            job = make_job(Path(home))
            results["disks"] = run_attack("disks", fill_run(job), wanted["disks"], wanted["seed"], RUN_SECONDS)
            results["kills"] = kill_runs(job, wanted["kills"], wanted["seed"])
    broken = sum(result["broken"] for result in results.values())
    print(json.dumps({**results, "broken": broken, "seconds": round(time.monotonic() - began, 1)}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
