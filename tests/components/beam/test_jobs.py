# SPDX-License-Identifier: Apache-2.0
import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from learn2compress.components.beam.jobs import ATTEMPTS, Job, check_workers, engine_reason, try_again
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.schemas.config import PipelineConfig
from learn2compress.schemas.errors import ClusterError, DataError, EngineError, PassingEngineError

JAVA = """Pipeline job-1 failed in state FAILED: java.lang.RuntimeException: Error received from SDK harness
\tat org.apache.beam.sdk.Foo.bar(Foo.java:1)
Caused by: java.io.IOException: Insufficient number of network buffers: required 9, but only 2 available
\tat org.apache.flink.Foo.bar(Foo.java:1)
"""


def fail(error):
    def step(_):
        raise error

    return beam.Create([1]) | beam.Map(step)


def test_job_runs_and_ends():
    with Job("direct", direct_runner_args(1)) as job:
        counts = job | beam.Create([1, 2, 3]) | beam.combiners.Count.Globally()
        assert_that(counts, equal_to([3]))


def test_job_keeps_an_error_of_our_own_on_this_machine():
    with pytest.raises(ZeroDivisionError), Job("direct", direct_runner_args(1)) as job:
        job | fail(ZeroDivisionError("ours"))


def test_job_tells_a_failure_of_an_engine_in_one_line():
    one_line = r"^the job on flink must end; it failed: .*ours"
    with pytest.raises(EngineError, match=one_line) as caught, Job("flink", direct_runner_args(1)) as job:
        job | fail(ZeroDivisionError("ours"))
    assert "\n" not in str(caught.value)


def test_try_again_repeats_a_job_that_failed_at_the_race_of_prism():
    panic = "panic in stage.Execute bundle processing goroutine: runtime error: invalid memory address or nil pointer"
    attempts = []

    def run():
        attempts.append(1)
        with Job("prism", direct_runner_args(1)) as job:
            job | fail(RuntimeError(f"Pipeline job-002 failed in state FAILED: {panic}"))

    with pytest.raises(PassingEngineError, match=r"^the job on prism must end; it failed at a fault of Prism"):
        try_again(run)
    assert len(attempts) == ATTEMPTS


def test_job_keeps_a_user_error_on_an_engine():
    with pytest.raises(DataError), Job("flink", direct_runner_args(1)) as job:
        job | fail(DataError("image 3 must be readable; got nothing."))


def test_job_is_cancelled_when_the_run_is_interrupted(monkeypatch):
    cancelled = []

    class Result:
        state = "RUNNING"

        def wait_until_finish(self):
            raise KeyboardInterrupt

        def cancel(self):
            cancelled.append(True)

    monkeypatch.setattr(beam.Pipeline, "run", lambda *_: Result())
    with pytest.raises(KeyboardInterrupt), Job("flink", direct_runner_args(1)) as job:
        job | beam.Create([1])
    assert cancelled == [True]


def test_engine_reason_is_the_last_cause_of_a_java_stack():
    assert engine_reason(RuntimeError(JAVA)) == (
        "IOException: Insufficient number of network buffers: required 9, but only 2 available"
    )
    assert engine_reason(RuntimeError("first\nsecond")) == "first"
    assert engine_reason(RuntimeError()) == "RuntimeError"


@pytest.fixture
def file(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{}")
    return tmp_path / "out" / "run.json"


def test_check_workers_leaves_nothing_in_the_exchange(store, file):
    check_workers(PipelineConfig(), file)
    check_workers(PipelineConfig(exchange="s3://bucket/exchange"), file)

    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_check_workers_names_a_folder_that_workers_do_not_see(file):
    file.unlink()

    with pytest.raises(EngineError, match=rf"^output {file.parent} must be a folder .* or set pipeline\.exchange\.$"):
        check_workers(PipelineConfig(), file)


def test_check_workers_names_an_exchange_that_refuses(store, file):
    store.refuse = {"PUT"}

    with pytest.raises(ClusterError, match=r"^s3://bucket/exchange/.* must be writable; "):
        check_workers(PipelineConfig(exchange="s3://bucket/exchange"), file)
