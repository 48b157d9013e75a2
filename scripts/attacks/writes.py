# SPDX-License-Identifier: Apache-2.0
"""Kills in mid-write: a process that writes records, a report and the database is killed at a random moment.

`verify` must not call the folder tampered, and the next command must go on and clean up.
"""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from attacks.running import ROOT, command

WRITER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from support.runs.synthetic import SyntheticRun
from learn2compress.pipeline.output_lock import hold_output
from learn2compress.pipeline.output_folder import claim_output
from learn2compress.schemas.files.whole import write_whole
out = Path(sys.argv[1])
claim_output(out, "drill")
connection = mlmd.ConnectionConfig(sqlite=mlmd.SqliteMetadataSourceConfig(filename_uri=str(out / "metadata.db")))
with hold_output(out, "run"):
    store = MetadataStore(connection)
    kind = store.put_execution_type(mlmd.ExecutionType(name="drill"))
    print("ready", flush=True)
    for number in range(10_000):
        running = mlmd.Execution(type_id=kind, last_known_state=mlmd.Execution.RUNNING, name="x" * 5000 + str(number))
        store.put_executions([running] * 1)
        write_whole(out / "report.json", json.dumps({"number": number, "fill": "x" * 100_000}))
        if number % 20 == 0:
            SyntheticRun(out / "pipeline", run=f"run-{number}", first=10 * number + 1)
"""


def kill_writer(chance: random.Random, folder: Path) -> str | None:
    """Kill a writer at a random moment; the folder is not tampered with, and the next command goes on."""
    from learn2compress.lineage.mlmd.store import open_sqlite
    from learn2compress.pipeline.leftovers import remove_leftovers
    from learn2compress.pipeline.output_lock import hold_output

    out = folder / "out"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(out), str(ROOT / "tests")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None
    if writer.stdout.readline() != b"ready\n":
        return f"the writer did not begin: {writer.communicate()[1].decode()[-500:]}"
    time.sleep(chance.uniform(0, 1.0))
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    if (out / "report.json").exists():
        json.loads((out / "report.json").read_bytes())
    if any((out / "pipeline").rglob("*.intoto.json")):
        status, told = command("verify", out)
        if status not in (0, 5):
            return f"verify: {status} {told[:500]}"
    with hold_output(out, "run"):
        remove_leftovers(open_sqlite(out / "metadata.db"), out)
    if left := list(out.rglob(".*.new")):
        return f"left: {left}"
    return None
