# SPDX-License-Identifier: Apache-2.0
"""Measures the operations of a latency table on this machine, and keeps the table in the user's cache folder.

Each operation is a small .tflite file of its own; the least of many invocations counts, in rounds over all files, so
that other work on the machine disturbs no operation more than others.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from learn2compress.evaluation.latency.model import LatencyModel, Measured, fit
from learn2compress.evaluation.latency.operation_file import operation_file
from learn2compress.evaluation.latency.operations import Operation, addition, convolution, depthwise
from learn2compress.evaluation.latency.table import read_table, write_table
from learn2compress.schemas.errors import ConfigError
from learn2compress.schemas.reports import Host

Measurable = tuple[Operation, int]  # and the number of repetitions in a file
ROUNDS = 3
_REPEATED = addition(4, 4, 8)  # the operation from which the share of an invocation follows
_REPETITIONS = 33
_INVOCATIONS = 40  # of a file in a round, fewer where they take longer than `_SECONDS`
_LEAST_INVOCATIONS = 5
_SECONDS = 0.004
_MOST_MACS = 8_000_000  # of a measured operation
_SIDES = (4, 7, 8, 12, 14, 16, 20, 28, 32, 48, 56)
_WIDTHS = (8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256)
_VERSION = 1  # of the measured operations; another one is measured anew


def operations_to_measure() -> list[Measurable]:
    """List operations of each kind, the same ones each time: shapes drawn from those of small networks."""
    drawn = random.Random(0)
    found: dict[Measurable, None] = {(_REPEATED, 1): None, (_REPEATED, _REPETITIONS): None}
    for make, count in (
        (_draw_pointwise, 64), (_draw_convolution, 72), (_draw_depthwise, 40), (_draw_addition, 12), (_draw_mean, 16),
        (_draw_dense, 20), (_draw_softmax, 6),
    ):  # fmt: skip
        wanted = len(found) + count
        while len(found) < wanted:
            operation = make(drawn)
            macs = operation.pixels * operation.kernel**2 * operation.outputs
            if operation.kind != "depthwise":
                macs *= operation.inputs
            if macs <= _MOST_MACS:
                found[operation, 1] = None
    return list(found)


def measure_operations(
    files: Sequence[Measurable], rounds: int = ROUNDS, say: Callable[[str], None] = lambda _: None
) -> list[Measured]:
    """Measure operations on this machine with one thread.

    Args:
        files: Operations and numbers of repetitions.
        rounds: Number of rounds.
        say: Receives a sentence at the start and after each round.
    """
    say(f"Measuring {len(files)} operations of networks on this machine, once; it takes some seconds …")
    began, least = time.monotonic(), [float("inf")] * len(files)
    contents = [operation_file(operation, times) for operation, times in files]
    for number in range(rounds):
        for index, content in enumerate(contents):
            least[index] = min(least[index], _least_ms(content))
        say(f"… round {number + 1} of {rounds} after {time.monotonic() - began:.0f} s")
    return [Measured(operation, ms, times) for (operation, times), ms in zip(files, least, strict=True)]


def model_of_host(host: Host, say: Callable[[str], None] = lambda _: None) -> LatencyModel:
    """Return the latency model of this machine, measured at the first call with its processor, cores and runtime.

    Args:
        host: Description of this machine.
        say: Receives sentences about the measurement.
    """
    known = cached_model(host)
    if known is not None:
        return known
    path = _cache_file(host)
    measured = measure_operations(operations_to_measure(), say=say)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, _without_name(host), measured)
    except OSError as error:
        say(f"The latency table of this machine was not kept, since {path} cannot be written: {error.strerror}")
        return fit(host.processor, host.runtime, measured)
    say(f"The latency table of this machine is {path}")
    return read_table(path)


def cached_model(host: Host) -> LatencyModel | None:
    """Return the latency model of this machine if it has been measured before; a damaged file counts as none."""
    try:
        return read_table(_cache_file(host))
    except ConfigError:
        return None


def _least_ms(content: bytes) -> float:
    """Measure the least milliseconds of an invocation of a file."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    interpreter.set_tensor(entry["index"], np.random.default_rng(0).integers(-128, 128, entry["shape"], np.int8))
    for _ in range(2):
        interpreter.invoke()
    times: list[int] = []
    began = time.perf_counter_ns()
    while len(times) < _INVOCATIONS:
        start = time.perf_counter_ns()
        interpreter.invoke()
        now = time.perf_counter_ns()
        times.append(now - start)
        if len(times) >= _LEAST_INVOCATIONS and now - began > _SECONDS * 1e9:
            break
    return min(times) / 1e6


def _cache_file(host: Host) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = f"{host.processor}|{host.cores}|{host.runtime}|{_VERSION}"
    return folder / "learn2compress" / "latency" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _without_name(host: Host) -> Host:
    """Name a machine by its processor: other machines with the same one have the same table."""
    return host.model_copy(update={"name": host.processor})


def _draw_pointwise(drawn: random.Random) -> Operation:
    side = drawn.choice(_SIDES)
    return convolution(side, side, drawn.choice(_WIDTHS), drawn.choice(_WIDTHS), 1)


def _draw_convolution(drawn: random.Random) -> Operation:
    side, kernel = drawn.choice(_SIDES), drawn.choice((3, 3, 3, 5))
    return convolution(
        side, side, drawn.choice((1, 3, 3, *_WIDTHS[:9])), drawn.choice(_WIDTHS[:10]), kernel, drawn.choice((1, 2))
    )


def _draw_depthwise(drawn: random.Random) -> Operation:
    side, kernel = drawn.choice(_SIDES), drawn.choice((3, 3, 3, 5))
    return depthwise(side, side, drawn.choice(_WIDTHS), kernel, drawn.choice((1, 2)))


def _draw_addition(drawn: random.Random) -> Operation:
    side = drawn.choice(_SIDES)
    return addition(side, side, drawn.choice(_WIDTHS))


def _draw_mean(drawn: random.Random) -> Operation:
    side, width = drawn.choice(_SIDES[:6]), drawn.choice(_WIDTHS)
    return Operation("mean", side, side, width, width)


def _draw_dense(drawn: random.Random) -> Operation:
    return Operation("dense", 1, 1, drawn.choice(_WIDTHS), drawn.choice((2, 5, 10, 20, 50, 100, 200, 1000)))


def _draw_softmax(drawn: random.Random) -> Operation:
    classes = drawn.choice((2, 5, 10, 20, 50, 100, 200, 500, 1000))
    return Operation("softmax", 1, 1, classes, classes)
