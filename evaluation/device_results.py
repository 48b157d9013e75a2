# SPDX-License-Identifier: Apache-2.0
"""Reads latencies measured on a phone, which replace those of the machine that ran the pipeline.

Two formats are supported. The first is JSON (`runs`, `p90`, `p99`, `peak_memory`, `statistic`,
`processor`, `cores` and `runtime` are optional; `file` is a file name or a SHA-256):

    {"device": "Pixel 8", "processor": "Tensor G3", "cores": 9, "runtime": "LiteRT 1.4",
     "results": [{"file": "small-int8.tflite", "threads": 1, "runs": 200,
                  "latency_ms": {"p50": 0.31, "p90": 0.35, "p99": 0.52}, "peak_memory": "9.2MB"}]}

The second is the output of TensorFlow's `benchmark_model`, with one or more runs in one text file, directly or from
logcat. The name of the device is then taken from the file name ("Pixel 8.txt"). If the version prints no median, the
mean is used and labelled as such; the peak memory requires `--report_peak_memory_footprint=true`.

Source: tensorflow/lite/tools/benchmark/README.md and benchmark_model.cc; in later years litert/tools.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from learn2compress.schemas.errors import ConfigError, first_fault
from learn2compress.schemas.reports import Candidate, Host, Latency
from learn2compress.schemas.units import parse_bytes

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class DeviceResults(NamedTuple):
    """The contents of a file of device results."""

    host: Host
    latency: list[tuple[str, Latency]]  # by file name or SHA-256


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Milliseconds(_Strict):
    p50: Positive
    p90: Positive | None = None
    p99: Positive | None = None


class _Result(_Strict):
    file: str
    latency_ms: _Milliseconds
    threads: Count = 1
    runs: Count | None = None
    peak_memory: Annotated[int, BeforeValidator(parse_bytes)] | None = None
    statistic: Literal["median", "mean"] = "median"  # what p50 is, since some versions of a tool only give a mean


class _Simple(_Strict):
    device: str
    results: Annotated[list[_Result], Field(min_length=1)]
    processor: str = "not stated"
    cores: Count | None = None
    runtime: str = "not stated"


def read_device_results(path: str | Path) -> DeviceResults:
    """Read a file of device results in either format.

    Raises:
        ConfigError: The file is missing, or has neither format.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"evaluate.device_results {path} must be a readable file; {error.strerror}.") from error
    return _read_simple(path, text) if text.lstrip().startswith("{") else _read_log(path, text)


def apply_device_results(candidates: Sequence[Candidate], results: DeviceResults) -> list[Candidate]:
    """Replace the latencies of candidates by those of the device.

    A candidate without a device result gets no latency, since figures of two machines cannot be compared.

    Raises:
        ConfigError: A result refers to a missing file, to two files of the same name, or is given twice.
    """
    replaced: dict[str, dict[int, Latency]] = {}
    for file, latency in results.latency:
        found = [c for c in candidates if file in (c.sha256, Path(c.file).name)]
        if len({c.sha256 for c in found}) != 1:
            names = ", ".join(Path(c.file).name for c in candidates)
            rule = "a single file" if found else f"one of {names}"
            raise ConfigError(
                f"device results of {results.host.name} must be of {rule}; got {file!r}. Correct its name or remove it."
            )
        for candidate in found:
            by_threads = replaced.setdefault(candidate.sha256, {})
            if latency.threads in by_threads:
                raise ConfigError(
                    f"device results of {results.host.name} must hold one result a file and thread count; "
                    f"got two of {file!r} with {latency.threads}. Keep the one that counts."
                )
            by_threads[latency.threads] = latency
    return [
        c.model_copy(update={"latency": [entry for _, entry in sorted(replaced.get(c.sha256, {}).items())]})
        for c in candidates
    ]


def _read_simple(path: Path, text: str) -> DeviceResults:
    try:
        simple = _Simple.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise ConfigError(f"device results {path} must be JSON; {error}.") from error
    except ValidationError as error:
        got = error.errors()[0]["input"]
        raise ConfigError(f"device results {path}: {first_fault(error)}; got {got!r}.") from error
    host = _device(simple.device, simple.processor, simple.cores, simple.runtime)
    return DeviceResults(
        host,
        [
            (
                result.file,
                Latency(
                    threads=result.threads,
                    p50_ms=result.latency_ms.p50,
                    p90_ms=result.latency_ms.p90,
                    p99_ms=result.latency_ms.p99,
                    runs=result.runs,
                    statistic=result.statistic,
                    peak_memory_bytes=result.peak_memory,
                ),
            )
            for result in simple.results
        ],
    )


_NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"
_GRAPH = re.compile(r"Graph: \[(.+?)\]|Loaded model (\S+)")
_THREADS = re.compile(r"(?:Num threads|#threads used for CPU inference): \[(\d+)\]")
_STEADY = re.compile(r"count=(\d+) first=")
_MEDIAN = re.compile(r" median=" + _NUMBER)
_TIMINGS = re.compile(r"Inference timings in us: Init: .*Inference \(avg\): " + _NUMBER)
_MEMORY = re.compile(r"Overall peak memory footprint \(MB\) via periodic monitoring: " + _NUMBER)


class _Run(TypedDict, total=False):
    """The figures of one run that have been read from the log so far."""

    file: str
    threads: int
    runs: int
    median: float  # us
    mean: float  # us
    memory: float  # MB


def _read_log(path: Path, text: str) -> DeviceResults:
    latencies = parse_benchmark_log(text, f"device results {path}")
    return DeviceResults(_device(path.stem, "not stated", None, "benchmark_model"), latencies)


def parse_benchmark_log(text: str, where: str) -> list[tuple[str, Latency]]:
    """Read the latencies from what benchmark_model prints.

    Args:
        text: Output of one or more runs.
        where: What the text is, for error messages.

    Returns:
        File name and latency of each run.

    Raises:
        ConfigError: There is no run in it, or one without the name of its model.
    """
    runs: list[_Run] = []
    current: _Run = {}
    for line in text.splitlines():
        if match := _GRAPH.search(line):
            name = re.split(r"[/\\]", match[1] or match[2])[-1]
            # `Graph:` starts a run; `Loaded model` in the same run repeats the name of the file.
            if match[1] or current.get("file") != name:
                current = {"file": name} if "file" in current else {**current, "file": name}
        elif match := _THREADS.search(line):
            if "mean" in current:
                current = {}  # the thread count of the next run comes before its graph
            current["threads"] = int(match[1])
        elif match := _STEADY.search(line):
            current["runs"] = int(match[1])  # the line of the warm-up comes first, that of the steady state last
            median = _MEDIAN.search(line)
            current["median"] = float(median[1]) if median else 0.0
        elif match := _TIMINGS.search(line):
            current["mean"] = float(match[1])
            runs.append(current)
        elif (match := _MEMORY.search(line)) and runs:
            runs[-1]["memory"] = float(match[1])
    if not runs:
        raise ConfigError(
            f"{where} must be JSON, or what benchmark_model prints, with its line "
            "'Inference timings in us: …'; found neither."
        )
    if any("file" not in run for run in runs):
        raise ConfigError(f"{where} must name the model of each run ('Graph: […]'); one of {len(runs)} runs does not.")
    return [_run_latency(run) for run in runs]


def _run_latency(run: _Run) -> tuple[str, Latency]:
    median = run.get("median")
    return run["file"], Latency(
        threads=run.get("threads", 1),
        p50_ms=(median or run["mean"]) / 1000,
        p90_ms=None,
        p99_ms=None,
        runs=run.get("runs"),
        statistic="median" if median else "mean",
        peak_memory_bytes=round(run["memory"] * 1024 * 1024) if "memory" in run else None,
    )


def _device(name: str, processor: str, cores: int | None, runtime: str) -> Host:
    return Host(name=name, processor=processor, cores=cores, runtime=runtime, source="device")
