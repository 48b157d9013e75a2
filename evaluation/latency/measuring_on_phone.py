# SPDX-License-Identifier: Apache-2.0
"""Measures the operations of a latency table on a phone with TensorFlow's benchmark_model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from learn2compress.evaluation.latency.measuring import Measurable
from learn2compress.evaluation.latency.model import Measured
from learn2compress.evaluation.latency.operation_file import operation_file
from learn2compress.evaluation.latency.phone import Phone, measure_on_phone
from learn2compress.schemas.reports import Host

_RUNS = 30
_SECONDS = 0.05  # of timed inferences of a file, since there are hundreds of files
_SAY_EVERY = 20


def measure_operations_on_phone(
    phone: Phone,
    files: Sequence[Measurable],
    tool: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Measured]:
    """Measure operations on a phone with one thread.

    Args:
        phone: The phone.
        files: Operations and numbers of repetitions.
        tool: A benchmark_model to push to the phone; None: the phone has one.
        say: Receives a sentence now and then.

    Raises:
        DeviceError: benchmark_model is missing or fails.
    """
    done = 0

    def count(_: str) -> None:
        nonlocal done
        done += 1
        if done % _SAY_EVERY == 0 or done == len(files):
            say(f"{done} of {len(files)} operations were measured on {phone.name}")

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.tflite") for number in range(len(files))]
        for path, (operation, times) in zip(paths, files, strict=True):
            path.write_bytes(operation_file(operation, times))
        results = measure_on_phone(phone, paths, [1], _RUNS, tool, count, _SECONDS)
    return [
        Measured(operation, result.latency.p50_ms, times)
        for (operation, times), result in zip(files, results, strict=True)
    ]


def host_of(phone: Phone) -> Host:
    """Describe a phone and the runtime with which its operations are measured."""
    return Host(
        name=phone.name, processor=phone.processor, cores=phone.cores, runtime="benchmark_model", source="device"
    )
