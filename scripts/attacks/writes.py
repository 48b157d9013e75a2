# SPDX-License-Identifier: Apache-2.0
"""Kills in mid-write: a process that writes records, a report and the database is killed at a random moment.

`verify` must not call the folder tampered, and the next command must go on and clean up.
"""

import json
import os
import random
import signal
import time
import traceback
from pathlib import Path

from attacks.running import command

_LAST = 10_000


def kill_writer(chance: random.Random, folder: Path) -> str | None:
    """Kill a writer at a random moment; the folder is not tampered with, and the next command goes on."""
    from learn2compress.lineage.mlmd.store import open_sqlite
    from learn2compress.pipeline.output.leftovers import remove_leftovers
    from learn2compress.pipeline.output.lock import hold_output

    out = folder / "out"
    reading, writing = os.pipe()
    writer = os.fork()  # a new process would import for longer than it writes
    if not writer:
        _write(out, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        if told.readline() != b"ready\n":
            return f"the writer did not begin: {told.read().decode()[-500:]}"
        time.sleep(chance.uniform(0, 1.0))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    if (out / "report.json").exists():
        json.loads((out / "report.json").read_bytes())
    if any((out / "pipeline").rglob("*.intoto.json")):
        status, said = command("verify", out)
        if status not in (0, 5):
            return f"verify: {status} {said[:500]}"
    with hold_output(out, "run"):
        remove_leftovers(open_sqlite(out / "metadata.db"), out)
    if left := list(out.rglob(".*.new")):
        return f"left: {left}"
    return None


def _write(out: Path, told: int) -> None:
    """Write what a run writes, over and over; the process never returns."""
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as mlmd
    from support.runs.synthetic import SyntheticRun

    from learn2compress.pipeline.output.folder import claim_output
    from learn2compress.pipeline.output.lock import hold_output
    from learn2compress.schemas.files.whole import write_whole

    try:
        claim_output(out, "drill")
        database = mlmd.SqliteMetadataSourceConfig(filename_uri=str(out / "metadata.db"))
        with hold_output(out, "run"):
            store = MetadataStore(mlmd.ConnectionConfig(sqlite=database))
            kind = store.put_execution_type(mlmd.ExecutionType(name="drill"))
            os.write(told, b"ready\n")
            for number in range(_LAST):
                name = "x" * 500 + str(number)
                # As a run does, it begins the executions before it writes their files.
                running = {"type_id": kind, "last_known_state": mlmd.Execution.RUNNING}
                store.put_executions([mlmd.Execution(name=f"{name}-{one}", **running) for one in range(10)])
                write_whole(out / "report.json", json.dumps({"number": number, "fill": "x" * 100_000}))
                if number % 20 == 0:
                    SyntheticRun(out / "pipeline", run=f"run-{number}", first=10 * number + 1)
    except BaseException:
        os.write(told, traceback.format_exc().encode())
    os._exit(1)
