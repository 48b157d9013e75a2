# SPDX-License-Identifier: Apache-2.0
"""What is left when bundles are done twice, or fail after they have written, or lose their worker."""

import time
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from support.servers.worker_pool import Killing, bare_python, needs_prism, needs_processes, worker_pool

from learn2compress.components.beam.ingestion import ingest
from learn2compress.components.beam.jobs import Job, try_again
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.beam.signals import Signals
from learn2compress.data.example_records import make_plan
from learn2compress.data.sources.formats import open_source, resolve_task
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import EngineError


@pytest.fixture
def source(tmp_path):
    """A source of 300 images, and its plan for a folder."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (300, 4, 4, 3), np.uint8), np.arange(300) % 3
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    config = DataConfig(path=str(tmp_path / "data.npz"))
    opened = open_source(config)

    def plan(folder):
        # A step has a new folder for each attempt.
        spill = folder / f".spill-{time.monotonic_ns()}"
        return make_plan(config, opened, resolve_task(config, opened), str(folder), str(spill))

    return opened.pieces, plan


def shards(folder: Path) -> dict[str, bytes]:
    """All files below a folder, those of interrupted attempts as well; without the spill, which the step removes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files if ".spill-" not in str(p)}


@pytest.fixture
def expected(source, tmp_path):
    pieces, plan = source
    ingest(beam.Pipeline(argv=direct_runner_args(1)), pieces, plan(tmp_path / "expected"))
    return shards(tmp_path / "expected")


def test_shards_are_equal_and_alone_when_each_bundle_is_done_twice(source, expected, tmp_path):
    pieces, plan = source
    report = ingest(beam.Pipeline(runner=FnApiRunner(bundle_repeat=1)), pieces, plan(tmp_path / "twice"))

    assert shards(tmp_path / "twice") == expected
    assert sum(map(sum, (part.values() for part in report["examples"].values()))) == 300


def test_shards_are_equal_and_alone_when_a_bundle_fails_after_it_has_written(source, expected, tmp_path, monkeypatch):
    pieces, plan = source
    tell_done, failed = Signals.tell_done, []

    def fail_once(self, name):
        if name.startswith("train") and not failed:
            failed.append(name)
            raise ConnectionError("lost after the shard was written")
        tell_done(self, name)

    monkeypatch.setattr(Signals, "tell_done", fail_once)
    with pytest.raises(ConnectionError, match="lost after"):
        ingest(beam.Pipeline(argv=direct_runner_args(1)), pieces, plan(tmp_path / "again"))
    ingest(beam.Pipeline(argv=direct_runner_args(1)), pieces, plan(tmp_path / "again"))

    assert failed
    assert shards(tmp_path / "again") == expected


@pytest.fixture
def arguments(request, tmp_path, monkeypatch):
    """Arguments of an engine whose workers are processes of their own, which can import tests/support."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    if request.param == "direct":
        yield direct_runner_args(2)
        return
    with worker_pool(tmp_path) as arguments:
        yield arguments


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [pytest.param("direct", marks=needs_processes), pytest.param("prism", marks=needs_prism)],
    indirect=True,
)
def test_shards_are_equal_and_alone_after_a_worker_was_killed(source, expected, arguments, tmp_path):
    pieces, plan = source
    flag, attempts = tmp_path / "killed", []
    doomed = [Killing(pieces[0], str(flag)), *pieces[1:]]

    def attempt():
        attempts.append(1)
        return ingest(Job("engine", arguments), doomed, plan(tmp_path / "again"))

    try_again(attempt)

    assert flag.exists()
    assert len(attempts) == 2
    assert shards(tmp_path / "again") == expected


@needs_prism
@pytest.mark.slow
def test_workers_without_the_package_are_named_in_one_line(source, tmp_path):
    pieces, plan = source
    with (
        worker_pool(tmp_path, bare_python(tmp_path)) as arguments,
        pytest.raises(EngineError, match=r"^the workers on prism must have this package; they cannot import"),
    ):
        ingest(Job("prism", arguments), pieces, plan(tmp_path / "out"))
