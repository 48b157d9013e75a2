# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
from threading import Thread
from types import SimpleNamespace

from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler

from learn2compress.components.beam import lost_workers
from learn2compress.components.beam.lost_workers import aborting_lost_workers


def started(worker_id: str) -> tuple[SimpleNamespace, subprocess.Popen]:
    """A worker that never connects, with its handler."""
    process = subprocess.Popen(["/bin/sh", "-c", "sleep 600; true"], env=os.environ | {"WORKER_ID": worker_id})
    thread = Thread(target=process.wait)
    thread.start()
    return SimpleNamespace(worker_id=worker_id, worker_thread=thread), process


def test_workers_that_have_not_connected_are_ended_when_another_one_is_lost(monkeypatch):
    monkeypatch.setattr(lost_workers, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(
        lost_workers.local_job_service, "SubprocessSdkWorker", lambda *_: SimpleNamespace(run=fail_as_a_lost_worker)
    )
    connection = SimpleNamespace(push=lambda request: request, _futures_by_id={})
    first = SimpleNamespace(
        _worker_command_line=b"", control_address="", provision_info=None, worker_id="lost", control_conn=connection
    )
    other, process = started("waiting")
    with aborting_lost_workers():
        SubprocessSdkWorkerHandler.start_worker(first)
        first.worker_thread.join()
        SubprocessSdkWorkerHandler.stop_worker(other)

    assert process.poll() is not None
    assert not other.worker_thread.is_alive()


def fail_as_a_lost_worker() -> None:
    raise RuntimeError("Worker subprocess exited with return code 137")
