# SPDX-License-Identifier: Apache-2.0
"""Runs the small job on another engine, and compares all results with those of one process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.digits_job import command, states
from support.jobs.large import TEST, TRAIN, write_large_job
from support.servers.worker_pool import (
    PRISM,
    bare_python,
    can_hide,
    in_make_engines,
    needs_prism,
    needs_processes,
    worker_pool,
)

from learn2compress.schemas.digests import file_sha256

pytestmark = pytest.mark.e2e
ENGINE = ("--set", "pipeline.runner=prism", "--set", f"pipeline.prism.location={PRISM}")
# Set by `make engines`, which starts the cluster.
FLINK = os.environ.get("FLINK_MASTER")
FLINK_ENGINE = (
    "--set", "pipeline.runner=flink", "--set", f"pipeline.flink.master={FLINK}",
    "--set", "pipeline.flink.parallelism=2",
    "--set", f"pipeline.flink.job_server_jar={os.environ.get('JOB_SERVER_JAR')}",
)  # fmt: skip

needs_flink = pytest.mark.skipif(FLINK is None, reason="needs a Flink cluster: make engines JOB_SERVER_JAR=PATH")


def contents(output: Path, node: str) -> dict[str, str]:
    """Digests of the files that a node wrote, by path without the number of the execution."""
    folders = sorted((output / "pipeline" / node).glob("*/*/"))
    return {
        f"{folder.parent.name}/{path.relative_to(folder).as_posix()}": file_sha256(path)
        for folder in folders
        if folder.parent.name not in ("provenance", ".system")
        for path in folder.rglob("*")
        if path.is_file()
    }


def figures(output: Path) -> list[dict]:
    """What was measured of each file, without times."""
    candidates = json.loads((output / "report.json").read_text())["evaluation"]["candidates"]
    return [{key: value for key, value in candidate.items() if key != "latency"} for candidate in candidates]


def assert_equal_results(output: Path, expected: Path) -> None:
    for node, kind in (
        ("ImageExampleGen", "data_tfrecord"),
        ("TeacherImporter", "data_tfrecord"),
        ("Quantizer", ".tflite"),
    ):
        wanted = {name: digest for name, digest in contents(expected, node).items() if kind in name}
        found = contents(output, node)
        assert wanted
        assert {name: found.get(name) for name in wanted} == wanted, node
    assert figures(output) == figures(expected)


@pytest.mark.parametrize(
    "engine",
    [pytest.param(ENGINE, marks=needs_prism, id="prism"), pytest.param(FLINK_ENGINE, marks=needs_flink, id="flink")],
)
def test_run_on_an_engine_gives_the_same_examples_logits_files_and_figures(finished, job, tmp_path, engine):
    output, _ = finished
    result = command("run", job, "--output", tmp_path / "out", *engine)

    assert result.returncode == 0, result.stdout + result.stderr
    assert_equal_results(tmp_path / "out", output)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> tuple[Path, Path]:
    """The job of 20,000 images, and the output of its run in one process."""
    folder = tmp_path_factory.mktemp("large")
    job, output = write_large_job(folder / "job"), folder / "out"
    result = command("run", job, "--output", output, "--allow-near-chance")
    assert result.returncode == 0, result.stdout + result.stderr
    return job, output


@in_make_engines
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(("--set", "pipeline.workers=2"), id="direct"),
        pytest.param(ENGINE, marks=needs_prism, id="prism"),
        pytest.param(FLINK_ENGINE, marks=needs_flink, id="flink"),
    ],
)
def test_run_of_20000_images_on_an_engine_gives_the_same_and_another_one_finds_it_in_the_cache(large, tmp_path, engine):
    job, expected = large
    result = command("run", job, "--output", tmp_path / "out", "--allow-near-chance", *engine)

    assert result.returncode == 0, result.stdout + result.stderr
    counts = json.loads((tmp_path / "out" / "report.json").read_text())["data"]["counts"]
    assert sum(counts.values()) == TRAIN + TEST
    assert_equal_results(tmp_path / "out", expected)

    again = command("run", job, "--output", expected, "--allow-near-chance", *engine)
    assert again.returncode == 0, again.stdout + again.stderr
    assert set(states(again.stdout).values()) == {"cached"}


def on_pool(arguments: list[str]) -> tuple[str, ...]:
    """Settings of a run on Prism with a pool of workers."""
    environment = [argument for argument in arguments if argument.startswith("--environment")]
    return (*ENGINE, "--set", f"pipeline.beam_args={json.dumps(environment)}")


@in_make_engines
@needs_prism
@pytest.mark.skipif(not can_hide(), reason="needs root, for a mount namespace")
def test_run_with_workers_that_see_no_folder_of_the_run_gives_the_same(finished, job, store, tmp_path):
    hidden = tmp_path.parent
    assert job.is_relative_to(hidden)
    with worker_pool(Path("/"), hidden=hidden) as arguments:
        refused = command("run", job, "--output", tmp_path / "out", *on_pool(arguments))
        exchange = ("--set", "pipeline.exchange=s3://bucket/exchange")
        result = command("run", job, "--output", tmp_path / "out", *on_pool(arguments), *exchange)

    assert refused.returncode == 2
    assert refused.stderr.endswith("Put it on a file system that all machines share, or set pipeline.exchange.\n")
    assert len(refused.stderr.splitlines()) == 1
    assert result.returncode == 0, result.stdout + result.stderr
    assert_equal_results(tmp_path / "out", finished[0])
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


@in_make_engines
@needs_prism
def test_run_names_workers_without_the_package_in_one_line(job, tmp_path):
    with worker_pool(tmp_path, bare_python(tmp_path)) as arguments:
        result = command("run", job, "--output", tmp_path / "out", *on_pool(arguments))

    assert result.returncode == 2
    assert result.stderr.startswith("learn2compress: the workers on prism must have this package; they cannot import")
    assert len(result.stderr.splitlines()) == 1


def children() -> list[int]:
    """Worker processes of Beam that descend from this process."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
    found = []
    for number in parents:
        ancestor = number
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        is_worker = "sdk_worker_main" in _command_of(number) and not _command_of(number).startswith("/bin/sh")
        if ancestor == os.getpid() and is_worker:
            found.append(number)
    return found


def _command_of(number: int) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def flink_workers() -> list[int]:
    """Process ids of the TaskManagers."""
    return [int(number) for number in os.environ.get("FLINK_TASKMANAGERS", "").split()]


@in_make_engines
@pytest.mark.parametrize(
    ("engine", "find", "node"),
    [
        pytest.param(("--set", "pipeline.workers=2"), children, "TeacherImporter", id="direct", marks=needs_processes),
        pytest.param(FLINK_ENGINE, flink_workers, "TeacherImporter", marks=needs_flink, id="flink"),
    ],
)
def test_run_gives_the_same_when_a_worker_is_killed_in_mid_step(
    finished, job, tmp_path, engine, find: Callable[[], list[int]], node
):
    expected, _ = finished
    output = tmp_path / "out"
    program = [sys.executable, "-m", "learn2compress.cli.main", "run", str(job), "--output", str(output), *engine]
    run = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    workers: list[int] = []
    while run.poll() is None and not (workers and (output / "pipeline" / node).exists()):
        time.sleep(0.2)
        workers = find() if (output / "pipeline" / node).exists() else []
    assert workers, run.communicate()[0]
    os.kill(workers[0], signal.SIGKILL)
    text = run.communicate(timeout=900)[0]

    assert run.returncode == 0, text
    assert_equal_results(output, expected)


@needs_prism
def test_run_again_on_prism_is_served_from_the_cache(copy, job):
    result = command("run", job, "--output", copy, *ENGINE)

    assert result.returncode == 0, result.stdout + result.stderr
    assert set(states(result.stdout).values()) == {"cached"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["pipeline.runner=prism", "pipeline.prism.location=/no/prism"], "must be Beam's prism binary"),
        (["pipeline.runner=flink", "pipeline.flink.job_server_jar=/no.jar"], "must be the jar of Beam's job server"),
        (
            ["pipeline.runner=flink", f"pipeline.flink.job_server_jar={__file__}", "pipeline.flink.master=localhost:1"],
            "pipeline.flink.master must be the address of a service that runs; got localhost:1: Connection refused",
        ),
        (
            ["pipeline.runner=flink", f"pipeline.flink.job_server_jar={__file__}", "pipeline.flink.master={other}"],
            "pipeline.flink.master must be the REST address of a JobManager",
        ),
        (["pipeline.runner=flink", "pipeline.workers=2"], "workers must be left out with the runner flink"),
    ],
)
def test_run_names_an_engine_that_cannot_be_reached_in_one_line(job, store, tmp_path, settings, message):
    other = store.environment["AWS_ENDPOINT_URL"].removeprefix("http://")  # a service that is no JobManager
    words = [word for one in settings for word in ("--set", one.replace("{other}", other))]
    result = command("run", job, "--output", tmp_path / "out", *words)

    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
