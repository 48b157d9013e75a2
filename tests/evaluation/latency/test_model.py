# SPDX-License-Identifier: Apache-2.0
import random

import pytest
from support.latency import PER_MAC

from learn2compress.evaluation.latency.measuring import operations_to_measure
from learn2compress.evaluation.latency.model import LatencyModel, Measured, Terms, fit
from learn2compress.evaluation.latency.operations import Operation, addition, classification, convolution, depthwise
from learn2compress.schemas.errors import ConfigError

# A device that computes tiles of 4 pixels by 16 channels.
TILED = LatencyModel(
    "Tiled",
    "t 1",
    3.0,
    {
        "conv": Terms((4, 1, 16), (2.0, 0.0, 0.0, 0.0, 1e-5, 1e-6, 0.0, 1e-4)),
        "pointwise": Terms((4, 1, 16), (1.0, 0.0, 0.0, 0.0, 2e-5, 0.0, 1e-4, 0.0)),
        "depthwise": Terms((1, 1, 16), (1.0, 0.0, 1e-4, 0.0, 1e-4)),
        "dense": Terms((1, 1, 1), (1.0, 0.0, 1e-3, 1e-5)),
        "mean": Terms((1, 1, 1), (1.0, 0.0, 0.0, 1e-5)),
        "add": Terms((1, 1, 1), (0.5, 0.0, 0.0, 1e-4)),
        "softmax": Terms((1, 1, 1), (0.5, 1e-3)),
    },
)


def measured_by(model: LatencyModel) -> list[Measured]:
    return [
        Measured(operation, model.invocation / 1000 + times * model.operation_ms(operation), times)
        for operation, times in operations_to_measure()
    ]


def test_operation_ms_by_hand():
    # 20 channels fill two tiles: 2 + 1e-5 · 64 · 9 · 8 · 32 + 1e-6 · 9 · 8 · 32 + 1e-4 · 64 · 8
    conv = convolution(8, 8, 8, 20, kernel=3)

    assert TILED.operation_ms(conv) * 1000 == pytest.approx(2 + 1.47456 + 0.002304 + 0.0512)


def test_file_ms_adds_the_invocation_and_the_operations():
    operations = [convolution(4, 4, 3, 8, 3), depthwise(4, 4, 8), addition(4, 4, 8), *classification(4, 4, 8, 5)]
    macs = 16 * 9 * 3 * 8 + 16 * 9 * 8 + 8 * 5

    assert PER_MAC.file_ms(operations) == pytest.approx(0.01 + macs * 1e-6)


def test_fit_finds_the_tiles_and_predicts_other_shapes():
    found = fit("Tiled", "t 1", measured_by(TILED))
    drawn = random.Random(1)
    others = [
        make(drawn.randrange(3, 40), drawn.randrange(3, 40), drawn.randrange(1, 200))
        for make in (
            lambda h, w, c: convolution(h, w, c, 24, 3, 2),
            lambda h, w, c: convolution(h, w, 40, c, 1),
            depthwise,
            addition,
            lambda h, w, c: Operation("dense", 1, 1, h * w, c),
        )
        for _ in range(20)
    ]

    assert found.terms["conv"].tiles == found.terms["pointwise"].tiles == (4, 1, 16)
    assert found.invocation == pytest.approx(3.0)
    for other in others:
        assert found.operation_ms(other) == pytest.approx(TILED.operation_ms(other), rel=0.02), other


def test_fit_predicts_no_larger_operation_to_be_faster():
    noisy, drawn = measured_by(TILED), random.Random(0)
    found = fit("x", "y", [one._replace(ms=one.ms * drawn.uniform(0.8, 1.2)) for one in noisy])

    for kind in ("conv", "pointwise", "depthwise"):
        kernel = 1 if kind == "pointwise" else 3
        times = [found.operation_ms(Operation(kind, 8, 8, width, width, kernel)) for width in range(8, 200, 8)]
        assert times == sorted(times)


def test_fit_refuses_a_table_without_a_repeated_operation():
    single = [one for one in measured_by(TILED) if one.times == 1]
    with pytest.raises(ConfigError, match=r"must hold an operation both alone and repeated .*; got none\. Measure one"):
        fit("x", "y", single)


def test_fit_refuses_few_operations_of_a_kind():
    measured = measured_by(TILED)
    few = [one for one in measured if one.operation.kind != "conv"] + [
        one for one in measured if one.operation.kind == "conv"
    ][:3]
    with pytest.raises(ConfigError, match=r"at least 4 operations of a kind; got 3 of 'conv'\. Measure more"):
        fit("x", "y", few)


def test_operation_ms_refuses_a_kind_that_was_not_measured():
    found = fit("Pixel 8", "y", [one for one in measured_by(TILED) if one.operation.kind in ("add", "conv")])
    with pytest.raises(ConfigError, match=r"Pixel 8 must hold operations of the kind 'dense'; got conv, add\."):
        found.operation_ms(Operation("dense", 1, 1, 8, 10))
