# SPDX-License-Identifier: Apache-2.0
import gzip
import hashlib

import numpy as np
import pytest

from learn2compress.evaluation.measure import (
    FLIPS,
    Batch,
    Identity,
    describe,
    figures_of,
    join,
    measure_latency,
    predictions_of,
    tally,
    this_host,
)
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.manifests import Task
from learn2compress.tflite.interpreter import open_model

TASK = Task(input_shape=(2, 2, 1), classes=["a", "b", "c", "d"])


def batch(predicted, labels, teacher=None, first_id=0):
    """Images whose brightest pixel, at half brightness, is the predicted class; the second brightest is class 0."""
    images = np.zeros((len(predicted), 2, 2, 1), np.uint8)
    images[:, 0, 0, 0] = 51
    images.reshape(-1, 4)[np.arange(len(predicted)), predicted] = 127
    return Batch(
        ids=np.arange(first_id, first_id + len(predicted), dtype=np.uint64),
        sources=[f"image {first_id + i}" for i in range(len(predicted))],
        labels=np.array(labels, np.int32),
        examples=images,
        teacher=None if teacher is None else np.array(teacher, np.int32),
    )


@pytest.fixture(scope="module")
def classifier(brightest_pixel_tflite):
    return open_model(brightest_pixel_tflite)


def test_figures_of_a_split_by_hand(classifier):
    parts = [
        tally(classifier, [batch([1, 2, 3], [1, 2, 0], teacher=[1, 1, 0])]),
        tally(classifier, [batch([3], [2], teacher=[2], first_id=3)]),
    ]
    figures = figures_of(join(parts), classes=4, top_k=2)
    assert (figures.images, figures.top1, figures.k) == (4, 0.5, 2)
    assert figures.topk == 0.75  # of the third image the true class is second; of the fourth, not
    assert figures.confusion == [[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert (figures.agreement, figures.lost, figures.won) == (0.25, 2, 1)
    assert [(f.id, f.source, f.label, f.teacher, f.student) for f in figures.flips] == [
        ("0000000000000002", "image 2", 0, 0, 3),
        ("0000000000000003", "image 3", 2, 2, 3),
        ("0000000000000001", "image 1", 2, 1, 2),
    ]
    # Every confidence is 127/255; half are right.
    assert figures.calibration_error == pytest.approx(0.5 - 127 / 255, abs=1e-3)
    assert figures.top1_interval.low == pytest.approx(0.150, abs=1e-3)


def test_figures_of_has_no_agreement_when_there_is_no_teacher(classifier):
    figures = figures_of(tally(classifier, [batch([1], [1])]), classes=4, top_k=9)
    assert (figures.agreement, figures.lost, figures.won, figures.flips, figures.k) == (
        None,
        None,
        None,
        [],
        4,
    )


def test_join_is_independent_of_the_batches(classifier):
    predicted, labels, teacher = np.random.default_rng(0).integers(0, 4, (3, 50))
    whole = tally(classifier, [batch(predicted, labels, teacher)])
    cut = [
        tally(classifier, [batch(predicted[i : i + 7], labels[i : i + 7], teacher[i : i + 7], first_id=i)])
        for i in range(0, 50, 7)
    ]
    assert figures_of(join(cut), 4, 2) == figures_of(whole, 4, 2)


def test_join_lists_few_flips_and_counts_all(classifier):
    parts = [tally(classifier, [batch([1] * 40, [2] * 40, [2] * 40, first_id=40 * i)]) for i in range(2)]
    figures = figures_of(join(parts), 4, 2)
    assert (figures.lost, len(figures.flips)) == (80, FLIPS)


def test_tally_of_many_batches_is_that_of_its_parts_joined(classifier):
    rng = np.random.default_rng(3)
    batches = [batch(*rng.integers(0, 4, (3, 16)), first_id=16 * i) for i in range(12)]
    whole, parts = tally(classifier, batches), join([tally(classifier, [one]) for one in batches])

    assert (len(whole.negative_flips), len(whole.positive_flips)) == (FLIPS, FLIPS)
    assert (whole.negative_flips, whole.positive_flips) == (parts.negative_flips, parts.positive_flips)
    for one, other in zip(whole[:6], parts[:6], strict=True):
        assert np.array_equal(one, other)


def test_predictions_of_combines_files(classifier):
    found = tally(classifier, [batch([1, 2], [1, 1], teacher=[0, 1])])
    split = predictions_of({("test", "x"): found, ("validation", "x"): found, ("test", "y"): found}, "test")
    assert list(split.models) == ["x", "y"]
    assert split.models["y"].classes.tolist() == [1, 2]
    assert (split.labels.tolist(), split.teacher.tolist()) == ([1, 1], [0, 1])
    assert predictions_of({}, "test").models == {}


def test_describe_determines_the_costs_of_a_file(tmp_path, brightest_pixel_tflite):
    path = tmp_path / "x-float32.tflite"
    path.write_bytes(brightest_pixel_tflite)
    found = describe(path, Identity("x-float32", "x", "float32", path.name), TASK)
    assert found.failed is None
    assert found.sha256 == hashlib.sha256(brightest_pixel_tflite).hexdigest()
    assert found.bytes == len(brightest_pixel_tflite)
    assert found.gzip_bytes == len(gzip.compress(brightest_pixel_tflite, 9, mtime=0))
    assert (found.macs, found.full_int8, sum(found.ops.values())) == (0, False, 2)
    assert found.float_tensors


@pytest.mark.parametrize(
    ("content", "task", "reason"),
    [
        (lambda data: data[:100], TASK, "x.tflite"),
        (lambda _: b"no model", TASK, "x.tflite"),
        (
            lambda data: data,
            Task(input_shape=(4, 1, 1), classes=list("abcd")),
            r"must take images of \[4, 1, 1\]; it",
        ),
        (
            lambda data: data,
            Task(input_shape=(2, 2, 1), classes=list("ab")),
            "a score for each of 2 classes; got 4",
        ),
    ],
)
def test_describe_reports_a_file_as_failed(tmp_path, brightest_pixel_tflite, content, task, reason):
    path = tmp_path / "x.tflite"
    path.write_bytes(content(brightest_pixel_tflite))
    found = describe(path, Identity("x", "x", "float32", "x.tflite"), task)
    assert reason.replace("\\", "") in found.failed
    assert found.bytes == path.stat().st_size


def test_describe_refuses_a_missing_file(tmp_path):
    with pytest.raises(ModelFileError, match=r"none\.tflite"):
        describe(tmp_path / "none.tflite", Identity("x", "x", "float32", "none.tflite"), TASK)


def test_measure_latency_times_each_thread_count_once(tmp_path, brightest_pixel_tflite):
    path = tmp_path / "x.tflite"
    path.write_bytes(brightest_pixel_tflite)
    one, two = measure_latency(path, [2, 1, 2], runs=20)
    assert [(one.threads, one.runs), (two.threads, two.runs)] == [(1, 20), (2, 20)]
    assert 0 < one.p50_ms <= one.p90_ms <= one.p99_ms


def test_this_host_names_the_runtime():
    host = this_host()
    assert host.runtime.startswith("ai-edge-litert ")
    assert host.source == "host"
    assert host.processor
