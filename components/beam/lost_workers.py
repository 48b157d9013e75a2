# SPDX-License-Identifier: Apache-2.0
"""Recognizes failures of a job that may not occur again: a worker process has ended, or Prism met a race of its own.

Beam's runner for one machine waits without end for the response of a process that was killed: nothing tells it that the
process is gone. The thread that starts a process waits for it here, and ends what the runner waits for. The runner then
waits for the end of the other processes, of which one that has not connected yet would never learn that it should end:
it is ended here. Prism fails the job, and says so in words alone.

Prism 2.74 asks for progress ten times a second. If it is delayed for that long in a step that it runs itself, such as a
Flatten, it asks a worker that does not exist, and the job fails with a nil pointer. This was seen on a busy machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import psutil
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability import local_job_service
from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler

from learn2compress.schemas.errors import causes

_LOST = ("Worker subprocess exited", "Channel closed prematurely", "SDK worker disconnected")

_PATIENCE_SECONDS = 10.0  # with the other workers of a job that has lost one
_RACES = ("panic in stage.Execute bundle processing goroutine: runtime error: invalid memory address",)


def is_race(error: BaseException) -> bool:
    """Whether a job failed at Prism's race."""
    return any(words in str(cause) for cause in causes(error) for words in _RACES)


def is_lost_worker(error: BaseException) -> bool:
    """Whether a job failed since a worker was lost."""
    return any(words in str(cause) for cause in causes(error) for words in _LOST)


@contextmanager
def aborting_lost_workers() -> Iterator[None]:
    """Lets a job on several processes of this machine fail when one of them ends early, while the context lasts."""
    handler, lost = SubprocessSdkWorkerHandler, Event()
    original = handler.start_worker, handler.stop_worker
    handler.start_worker = lambda self: _start_worker(self, lost)
    handler.stop_worker = lambda self: _stop_worker(self, lost)
    try:
        yield
    finally:
        handler.start_worker, handler.stop_worker = original


def _start_worker(handler: Any, lost: Event) -> None:
    handler.worker = local_job_service.SubprocessSdkWorker(
        handler._worker_command_line, handler.control_address, handler.provision_info, handler.worker_id
    )

    def run() -> None:
        try:
            handler.worker.run()
        except RuntimeError as error:
            lost.set()
            _abort(handler.control_conn, error)

    handler.worker_thread = Thread(name="run_worker", target=run)
    handler.worker_thread.start()


def _stop_worker(handler: Any, lost: Event) -> None:
    """Waits for a worker's end; where another one was lost, not for long."""
    handler.worker_thread.join(_PATIENCE_SECONDS if lost.is_set() else None)
    if not handler.worker_thread.is_alive():
        return
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended, or is none of ours
            if process.environ().get("WORKER_ID") == handler.worker_id:
                process.kill()
    handler.worker_thread.join()


def _abort(connection: Any, error: Exception) -> None:
    """Answers all requests to a worker, and those to come, with an error."""
    push = connection.push

    def fail(future: Any) -> Any:
        if future is not None:
            future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=future.instruction_id, error=str(error)))
        return future

    connection.push = lambda request: fail(push(request))
    for future in list(connection._futures_by_id.values()):
        fail(future)
