# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from learn2compress.evaluation.device_results import apply_device_results, read_device_results
from learn2compress.schemas.errors import ConfigError
from learn2compress.schemas.reports import Candidate, Latency

HOST_LATENCY = Latency(threads=1, p50_ms=9, p90_ms=9, p99_ms=9, runs=9)

# Two runs as benchmark_model prints them: an older version on the shell, a newer one through logcat.
LOG = """\
STARTING!
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [/data/local/tmp/small-int8.tflite]
#threads used for CPU inference: [4]
Loaded model /data/local/tmp/small-int8.tflite
INFO: Initialized TensorFlow Lite runtime.
The input model file size (MB): 0.0246
Initialized session in 20.283ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=2 first=339304 curr=266325 min=266325 max=339304 avg=302814 std=36489
Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=266601 curr=266931 min=265837 max=268116 avg=266473 std=419
Inference timings in us: Init: 20283, First inference: 339304, Warmup (avg): 302814, Inference (avg): 266473
Memory footprint delta from the start of the tool (MB): init=6.70312 overall=63.4023
I tflite  : STARTING!
I tflite  : Graph: [/data/local/tmp/large-int8.tflite]
I tflite  : Loaded model /data/local/tmp/large-int8.tflite
I tflite  : count=9 first=1357602 curr=12 min=12 max=1357602 avg=1.3576e+06 std=2565 p5=1 median=2 p95=3
I tflite  : count=53 first=9 curr=9 min=1 max=9 avg=1.24027e+06 std=2565 p5=1238753 median=1239807 p95=1247415
I tflite  : Inference timings in us: Init: 5579, First inference: 1357602, \
Warmup (avg): 1.3576e+06, Inference (avg): 1.24027e+06
I tflite  : Overall peak memory footprint (MB) via periodic monitoring: 93.25
"""


def candidate(name):
    return Candidate(
        name=name,
        student=name,
        variant="int8",
        file=f"models/{name}.tflite",
        sha256=f"digest of {name}",
        bytes=1,
        gzip_bytes=1,
        latency=[HOST_LATENCY],
    )


def results_file(folder, tree):
    path = folder / "phone.json"
    path.write_text(json.dumps(tree))
    return path


def test_read_device_results_reads_json(tmp_path):
    path = results_file(
        tmp_path,
        {
            "device": "Pixel 8",
            "results": [
                {
                    "file": "small-int8.tflite",
                    "threads": 2,
                    "latency_ms": {"p50": 0.3, "p90": 0.4},
                    "peak_memory": "9.2MB",
                }
            ],
        },
    )
    host, latency = read_device_results(path)
    assert (host.name, host.source, host.cores) == ("Pixel 8", "device", None)
    expected = Latency(threads=2, p50_ms=0.3, p90_ms=0.4, p99_ms=None, runs=None, peak_memory_bytes=9_200_000)
    assert latency == [("small-int8.tflite", expected)]


def test_read_device_results_reads_the_output_of_benchmark_model(tmp_path):
    path = tmp_path / "Pixel 8.txt"
    path.write_text(LOG)
    host, latency = read_device_results(path)
    assert (host.name, host.runtime) == ("Pixel 8", "benchmark_model")
    assert latency == [
        (
            "small-int8.tflite",
            Latency(threads=4, p50_ms=266.473, p90_ms=None, p99_ms=None, runs=50, statistic="mean"),
        ),
        (
            "large-int8.tflite",
            Latency(
                threads=1,
                p50_ms=1239.807,
                p90_ms=None,
                p99_ms=None,
                runs=53,
                statistic="median",
                peak_memory_bytes=97_779_712,
            ),
        ),
    ]


def test_apply_device_results_replaces_the_hosts_figures(tmp_path):
    path = results_file(
        tmp_path,
        {
            "device": "Pixel 8",
            "results": [
                {"file": "small.tflite", "threads": 2, "latency_ms": {"p50": 0.2}},
                {"file": "digest of small", "latency_ms": {"p50": 0.3}},
            ],
        },
    )
    small, large = apply_device_results([candidate("small"), candidate("large")], read_device_results(path))
    assert [(entry.threads, entry.p50_ms) for entry in small.latency] == [(1, 0.3), (2, 0.2)]
    assert large.latency == []


def one_result(**fields):
    return {"device": "Pixel 8", "results": [{"file": "small.tflite", "latency_ms": {"p50": 0.2}, **fields}]}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (one_result(file="other.tflite"), r"must be of one of small\.tflite; got 'other\.tflite'"),
        (
            {"device": "Pixel 8", "results": one_result()["results"] * 2},
            r"one result a file and thread count; got two of 'small\.tflite' with 1",
        ),
    ],
)
def test_apply_device_results_refuses_a_result_that_matches_no_file(tmp_path, tree, message):
    with pytest.raises(ConfigError, match=message):
        apply_device_results([candidate("small")], read_device_results(results_file(tmp_path, tree)))


def test_apply_device_results_refuses_an_ambiguous_file_name():
    one, other = candidate("small"), candidate("small").model_copy(update={"sha256": "another"})
    results = ("Pixel 8", [("small.tflite", HOST_LATENCY)])

    class Results:
        host = one.model_copy(update={"name": results[0]})
        latency = results[1]

    with pytest.raises(ConfigError, match="must be of a single file"):
        apply_device_results([one, other], Results)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        (json.dumps({"device": "Pixel 8"}), "results: Field required"),
        (json.dumps(one_result(speed=3)), r"results\.0\.speed: Extra inputs are not permitted; got 3"),
        (
            json.dumps(one_result(latency_ms={"p50": -1})),
            r"latency_ms\.p50: Input should be greater than 0; got -1",
        ),
        (json.dumps(one_result(peak_memory="9 mb")), "A size must be a whole number with one of the units"),
        ("file,ms\nsmall.tflite,3\n", "must be JSON, or what benchmark_model prints"),
        (LOG.replace("Graph: ", "").replace("Loaded model", ""), "must name the model of each run"),
    ],
)
def test_read_device_results_refuses_unknown_formats(tmp_path, text, message):
    path = tmp_path / "phone"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_device_results(path)


def test_read_device_results_refuses_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="must be a readable file; No such file"):
        read_device_results(tmp_path / "none.json")
