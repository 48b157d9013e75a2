# SPDX-License-Identifier: Apache-2.0
"""Measures files on a phone with TensorFlow's benchmark_model, over adb.

    adb push FILE /data/local/tmp/learn2compress/model.tflite
    adb shell /data/local/tmp/benchmark_model --graph=… --num_threads=… --num_runs=… --report_peak_memory_footprint=true

The phone must have a benchmark_model of its architecture, which TensorFlow offers for download, or one is pushed there.

Source: tensorflow/lite/tools/benchmark/README.md.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from learn2compress.evaluation.device_results import parse_benchmark_log
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import DeviceError
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.reports import Latency

TOOL = "/data/local/tmp/benchmark_model"
_FOLDER = "/data/local/tmp/learn2compress"
_SECONDS = 600  # longest run of benchmark_model for one file
_WHERE = "https://www.tensorflow.org/lite/performance/measurement"


@dataclass(frozen=True)
class Phone:
    """A phone that adb reaches.

    Attributes:
        adb: Path of adb.
        serial: Serial number.
        name: Name of the model, such as Pixel 8.
        processor: Name of the processor, or of the board.
        cores: Number of cores; None if unknown.
        abi: Architecture, such as arm64-v8a.
    """

    adb: str
    serial: str
    name: str
    processor: str
    cores: int | None
    abi: str


@dataclass(frozen=True)
class PhoneResult:
    """The latency of one file with one thread count."""

    file: Path
    sha256: str
    latency: Latency


def open_phone(serial: str | None = None) -> Phone:
    """Find the phone and ask for its properties.

    Args:
        serial: Serial number; None if only one phone is connected.

    Raises:
        DeviceError: adb is not installed, or there is no phone, several, or one that does not allow debugging.
    """
    adb = shutil.which("adb")
    if adb is None:
        raise DeviceError(
            "adb must be on PATH; it is not. Install Android's platform tools (Debian: apt-get install adb)."
        )
    lines = _run([adb, "devices"]).splitlines()[1:]
    states = dict(line.split()[:2] for line in lines if len(line.split()) >= 2)
    if serial is None:
        if len(states) != 1:
            found = ", ".join(states) or "none"
            raise DeviceError(f"one phone must be connected; adb lists {found}. Connect one, or name it with --serial.")
        (serial,) = states
    if states.get(serial) != "device":
        state = states.get(serial, "not connected")
        raise DeviceError(f"phone {serial} must be ready; it is {state}. Unlock it and allow USB debugging.")

    def prop(name: str) -> str:
        return _run([adb, "-s", serial, "shell", f"getprop {name}"]).strip()

    cores = _run([adb, "-s", serial, "shell", "nproc"], check=False).strip()
    return Phone(
        adb=adb,
        serial=serial,
        name=prop("ro.product.model") or serial,
        processor=prop("ro.soc.model") or prop("ro.board.platform") or "not stated",
        cores=int(cores) if cores.isdigit() else None,
        abi=prop("ro.product.cpu.abi"),
    )


def measure_on_phone(
    phone: Phone,
    files: Sequence[Path],
    threads: Sequence[int],
    runs: int,
    tool: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    seconds: float | None = None,
) -> list[PhoneResult]:
    """Run benchmark_model on the phone for each file and thread count; the copies of the files are removed afterwards.

    Args:
        phone: The phone.
        files: .tflite files.
        threads: Thread counts.
        runs: Least number of timed inferences.
        tool: A benchmark_model to push to the phone; None: the phone has one at `TOOL`.
        say: Receives a sentence about each file.
        seconds: Least duration of the timed inferences of a file, and of the warm-up; None: that of benchmark_model.

    Raises:
        DeviceError: benchmark_model is missing or fails.
    """
    call = [phone.adb, "-s", phone.serial]
    if tool is not None:
        _run([*call, "push", str(tool), TOOL])
        _run([*call, "shell", f"chmod 755 {TOOL}"])
    elif "yes" not in _run([*call, "shell", f"test -x {TOOL} && echo yes"], check=False):
        raise DeviceError(
            f"the phone must have {TOOL}; it does not. Download benchmark_model for {phone.abi} from {_WHERE} and pass "
            "it with --benchmark-model."
        )
    _run([*call, "shell", f"mkdir -p {_FOLDER}"])
    target = f"{_FOLDER}/model.tflite"
    results = []
    try:
        for file in files:
            _run([*call, "push", str(file), target])
            for count in threads:
                options = f"--num_threads={count} --num_runs={runs} --report_peak_memory_footprint=true"
                if seconds is not None:
                    options += f" --min_secs={seconds:g} --warmup_min_secs={seconds:g}"
                log = _run([*call, "shell", f"{TOOL} --graph={target} {options} 2>&1"])
                _, latency = parse_benchmark_log(log, f"benchmark_model on {phone.name}")[-1]
                results.append(PhoneResult(file, file_sha256(file), latency.model_copy(update={"threads": count})))
                say(f"{file.name}: {latency.p50_ms:.3g} ms ({latency.statistic}), {count} threads, {phone.name}")
    finally:
        _run([*call, "shell", f"rm -rf {_FOLDER}"], check=False)
    return results


def write_device_results(path: Path, phone: Phone, results: Sequence[PhoneResult]) -> None:
    """Write results as JSON for `evaluate.device_results`; files are named by SHA-256, so that others cannot match."""
    tree = {
        "device": phone.name,
        "processor": phone.processor,
        **({"cores": phone.cores} if phone.cores else {}),
        "runtime": "benchmark_model",
        "results": [_to_json(result) for result in results],
    }
    write_whole(path, json.dumps(tree, indent=1, ensure_ascii=False) + "\n")


def _to_json(result: PhoneResult) -> dict[str, object]:
    latency = result.latency
    found: dict[str, object] = {
        "file": result.sha256,
        "threads": latency.threads,
        "latency_ms": {"p50": latency.p50_ms},
    }
    if latency.statistic != "median":
        found["statistic"] = latency.statistic
    if latency.runs is not None:
        found["runs"] = latency.runs
    if latency.peak_memory_bytes is not None:
        found["peak_memory"] = latency.peak_memory_bytes
    return found


def _run(command: list[str], check: bool = True) -> str:
    """Run a command of adb; returns its output.

    Raises:
        DeviceError: It fails or takes too long, unless `check` is False.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"`{' '.join(command[1:])}` must end within {_SECONDS} s; it did not. Unlock the phone and try again."
        ) from error
    if check and done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        raise DeviceError(
            f"`adb {' '.join(command[1:])}` must succeed; got: {lines[-1]}. Check the phone and its connection."
        )
    return done.stdout
