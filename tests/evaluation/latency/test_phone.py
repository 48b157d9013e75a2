# SPDX-License-Identifier: Apache-2.0
"""Driving benchmark_model over adb, tried with a stand-in for adb.

No phone is attached where the tests run. The stand-in is a script named adb on PATH: it records its calls, and replays
what benchmark_model printed on a phone. What the phone itself does is therefore not tested.
"""

import json
import os
import shlex
import stat
import sys
from pathlib import Path

import pytest

from learn2compress.evaluation.device_results import read_device_results
from learn2compress.evaluation.latency import measuring
from learn2compress.evaluation.latency.measuring_on_phone import host_of, measure_operations_on_phone
from learn2compress.evaluation.latency.operations import addition
from learn2compress.evaluation.latency.phone import measure_on_phone, open_phone, write_device_results
from learn2compress.evaluation.latency.table import read_table
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import ConfigError, DeviceError

PRINTED = """\
INFO: STARTING!
INFO: Num threads: [4]
INFO: Graph: [/data/local/tmp/learn2compress/model.tflite]
INFO: #threads used for CPU inference: [4]
INFO: Loaded model /data/local/tmp/learn2compress/model.tflite
INFO: Initialized TensorFlow Lite runtime.
INFO: The input model file size (MB): 0.0246
INFO: Initialized session in 20.283ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=2 first=339304 curr=266325 min=266325 max=339304 avg=302814 std=36489
INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=266601 curr=266931 min=265837 max=268116 avg=266473 std=419
INFO: Inference timings in us: Init: 20283, First inference: 339304, Warmup (avg): 302814, Inference (avg): 266473
INFO: Memory footprint delta from the start of the tool (MB): init=6.70312 overall=63.4023
INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.25
"""

STAND_IN = """\
import json, os, sys
arguments = sys.argv[1:]
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
if arguments == ["devices"]:
    print("List of devices attached\\n" + os.environ.get("PHONES", "8A2X\\tdevice"))
    sys.exit()
if arguments[:2] != ["-s", "8A2X"]:
    sys.exit("adb: no such device")
command = arguments[3] if arguments[2] == "shell" else arguments[2]
answers = {{
    "getprop ro.product.model": "Pixel 8", "getprop ro.soc.model": "Tensor G3", "nproc": "9",
    "getprop ro.product.cpu.abi": "arm64-v8a", "test -x /data/local/tmp/benchmark_model && echo yes": os.environ.get("TOOL", "yes"),
}}
if "--graph=" in command:
    if os.environ.get("FAILS"):
        sys.exit("Aborted")
    print(open({printed!r}).read())
else:
    print(answers.get(command, ""))
"""  # noqa: E501


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Put the stand-in for adb on PATH; returns a function that lists its calls."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "printed.txt").write_text(PRINTED)
    adb = tmp_path / "bin" / "adb"
    record = tmp_path / "calls.jsonl"
    program = tmp_path / "adb.py"
    program.write_text(STAND_IN.format(calls=str(record), printed=str(tmp_path / "printed.txt")))
    # The path of Python may contain a blank, which no "#!" line takes.
    adb.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(program))} "$@"\n')
    adb.chmod(adb.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return lambda: [json.loads(line) for line in record.read_text().splitlines()]


def test_open_phone_asks_for_its_properties(calls):
    phone = open_phone()

    assert (phone.name, phone.processor, phone.cores, phone.abi) == ("Pixel 8", "Tensor G3", 9, "arm64-v8a")
    assert calls()[0] == ["devices"]


def test_measure_on_phone_pushes_runs_and_removes(calls, tmp_path):
    model = tmp_path / "small-int8.tflite"
    model.write_bytes(b"TFL3")
    told: list[str] = []

    results = measure_on_phone(open_phone(), [model], [1, 4], 20, say=told.append)

    assert [(one.sha256, one.latency.threads, one.latency.p50_ms) for one in results] == [
        (file_sha256(model), 1, 266.473),
        (file_sha256(model), 4, 266.473),
    ]
    assert results[0].latency.statistic == "mean"
    done = [" ".join(call[2:]) for call in calls() if call[0] == "-s"][4:]
    target = "/data/local/tmp/learn2compress/model.tflite"
    assert done[1:3] == ["shell mkdir -p /data/local/tmp/learn2compress", f"push {model} {target}"]
    assert done[3] == (
        f"shell /data/local/tmp/benchmark_model --graph={target} --num_threads=1 --num_runs=20 "
        "--report_peak_memory_footprint=true 2>&1"
    )
    assert done[-1] == "shell rm -rf /data/local/tmp/learn2compress"
    assert told[0] == "small-int8.tflite: 266 ms (mean), 1 threads, Pixel 8"


def test_measure_on_phone_pushes_a_given_tool(calls, tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"TFL3")

    measure_on_phone(open_phone(), [tmp_path / "m.tflite"], [1], 1, Path("benchmark_model"))

    assert ["-s", "8A2X", "push", "benchmark_model", "/data/local/tmp/benchmark_model"] in calls()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PHONES", "", "one phone must be connected; adb lists none. Connect one"),
        ("PHONES", "8A2X\tdevice\n9B3Y\tdevice", "one phone must be connected; adb lists 8A2X, 9B3Y"),
        ("PHONES", "8A2X\tunauthorized", "phone 8A2X must be ready; it is unauthorized. Unlock it"),
        ("TOOL", "", "the phone must have /data/local/tmp/benchmark_model; it does not. .* for arm64-v8a"),
        ("FAILS", "yes", "must succeed; got: Aborted. Check the phone"),
    ],
)
def test_measure_on_phone_names_what_is_missing(calls, tmp_path, monkeypatch, variable, value, message):
    (tmp_path / "m.tflite").write_bytes(b"TFL3")
    monkeypatch.setenv(variable, value)

    with pytest.raises(DeviceError, match=message):
        measure_on_phone(open_phone(), [tmp_path / "m.tflite"], [1], 1)
    assert calls()


def test_open_phone_refuses_to_work_without_adb(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(DeviceError, match="adb must be on PATH; it is not"):
        open_phone()


def test_written_results_are_read_by_a_run(calls, tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"TFL3")
    phone = open_phone()
    results = measure_on_phone(phone, [tmp_path / "m.tflite"], [4], 1)

    write_device_results(tmp_path / "phone.json", phone, results)
    found = read_device_results(tmp_path / "phone.json")

    assert calls()
    assert (found.host.name, found.host.processor, found.host.cores) == ("Pixel 8", "Tensor G3", 9)
    assert found.latency == [(results[0].sha256, results[0].latency)]


def test_bench_writes_the_results_of_the_phone(calls, tmp_path, monkeypatch, type_in, brightest_pixel_tflite):
    (tmp_path / "m.tflite").write_bytes(brightest_pixel_tflite)
    monkeypatch.chdir(tmp_path)

    status, out, _ = type_in("bench", "m.tflite", "--adb", "--threads", 4)

    assert status == 0
    assert "m.tflite: 266 ms (mean), 4 threads, Pixel 8" in out
    assert json.loads((tmp_path / "Pixel 8.json").read_text())["results"][0]["threads"] == 4
    assert calls()


def test_bench_measures_on_this_machine(tmp_path, type_in, brightest_pixel_tflite):
    (tmp_path / "m.tflite").write_bytes(brightest_pixel_tflite)

    status, out, _ = type_in("bench", tmp_path / "m.tflite", "--runs", 3)

    assert status == 0
    assert "m.tflite: " in out
    assert "ms (median), 1 threads" in out


def test_measure_operations_on_phone_runs_each_file_briefly(calls):
    phone, files = open_phone(), [(addition(4, 4, 8), 1), (addition(4, 4, 8), 33)]
    told: list[str] = []

    found = measure_operations_on_phone(phone, files, say=told.append)

    assert found == [(operation, 266.473, times) for operation, times in files]
    (run, _) = [" ".join(call) for call in calls() if "--graph=" in call[-1]]
    assert "--num_threads=1 --num_runs=30 " in run
    assert run.endswith(" --min_secs=0.05 --warmup_min_secs=0.05 2>&1")
    assert told == ["2 of 2 operations were measured on Pixel 8"]
    assert (host_of(phone).name, host_of(phone).runtime) == ("Pixel 8", "benchmark_model")


@pytest.mark.parametrize("on_phone", [["--adb"], []])
@pytest.mark.usefixtures("calls")
def test_bench_writes_a_latency_table(tmp_path, monkeypatch, type_in, on_phone):
    few = measuring.operations_to_measure()[:3]
    monkeypatch.setattr(measuring, "operations_to_measure", lambda: few)
    monkeypatch.chdir(tmp_path)

    status, out, _ = type_in("bench", "--operations", "--output", "table.json", *on_phone)

    assert status == 0
    assert "Wrote table.json. Use it: learn2compress run CONFIG -o OUT --set students.latency_table=table.json" in out
    rows = json.loads((tmp_path / "table.json").read_text())["operations"]
    assert [row["kind"] for row in rows] == [one.kind for one, _ in few]
    assert rows[1]["times"] == few[1][1]
    with pytest.raises(ConfigError, match="at least 4 operations of a kind"):
        read_table("table.json")
    assert bool(on_phone) == bool((tmp_path / "calls.jsonl").exists())


def test_bench_refuses_files_beside_operations(type_in, tmp_path):
    for arguments in (["--operations", tmp_path / "m.tflite"], []):
        status, _, told = type_in("bench", *arguments)
        assert status == 2
        assert "either files or single operations must be measured; got" in told
