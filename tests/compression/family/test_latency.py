# SPDX-License-Identifier: Apache-2.0
"""Families under limits of latency, by a model that can be worked out by hand."""

import re
from dataclasses import replace

import pytest
from support.latency import PER_MAC

from learn2compress.compression.family.budgets import Budget
from learn2compress.compression.family.latency import block_operations, student_operations, timed_costs
from learn2compress.compression.family.sizing import describe_family, resolve_budgets, solve_family
from learn2compress.compression.family.spec import Conv, Separable, student_cost
from learn2compress.evaluation.latency.operations import addition, convolution, depthwise
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.errors import FamilyError

SHAPE = (16, 16, 1)


def sizes(**given):
    return {name: StudentSize(**size) for name, size in given.items()}


def test_block_operations_by_hand():
    assert block_operations(Conv("stem", 8, stride=2), (9, 16, 3)) == (convolution(5, 8, 3, 8, 3, 2),)
    assert block_operations(Separable("a", 16, stride=2), (8, 8, 8)) == (
        depthwise(4, 4, 8, 3, 2),
        convolution(4, 4, 8, 16, 1),
    )
    assert block_operations(Separable("a", 8), (4, 4, 8))[-1] == addition(4, 4, 8)


def test_student_cost_predicts_the_latency_of_its_operations(stripes):
    cost = timed_costs(stripes.SPEC, PER_MAC)["small"]

    assert cost.latency_ms == pytest.approx(0.01 + cost.macs * 1e-6)
    assert cost.latency_ms == pytest.approx(PER_MAC.file_ms(student_operations(stripes.SPEC, "small")))
    assert replace(cost, latency_ms=None) == student_cost(stripes.SPEC, "small")


def test_solve_family_keeps_and_uses_limits_of_latency():
    spec = solve_family(sizes(a={"latency_ms": 0.3}, b={"latency_ms": 1.2}), SHAPE, 10, latency=PER_MAC)
    small, large = timed_costs(spec, PER_MAC).values()

    assert 0.27 <= small.latency_ms <= 0.3
    assert 1.08 <= large.latency_ms <= 1.2


def test_solve_family_keeps_several_limits_at_once():
    limits = {"size_bytes": 20_000, "latency_ms": 0.4}
    spec = solve_family(sizes(a=limits, b={"size_bytes": "80KB", "macs": "1.5M"}), SHAPE, 10, latency=PER_MAC)
    small, large = timed_costs(spec, PER_MAC).values()

    assert small.predicted_bytes <= 20_000
    assert small.latency_ms <= 0.4
    assert max(small.predicted_bytes / 20_000, small.latency_ms / 0.4) >= 0.9
    assert large.predicted_bytes <= 80_000
    assert large.macs <= 1_500_000


def test_solve_family_ignores_a_latency_model_without_limits_of_latency():
    given = sizes(small={}, large={})

    assert solve_family(given, SHAPE, 10, latency=PER_MAC) == solve_family(given, SHAPE, 10)


@pytest.mark.parametrize("more", [{}, {"size_bytes": "20KB"}])
def test_solve_family_accepts_the_nearest_feasible_latency_of_its_message(more):
    given = {"latency_ms": 0.011, **more}
    with pytest.raises(
        FamilyError, match=r"'a' must be feasible within .*0\.011 ms; the nearest feasible is"
    ) as refused:
        solve_family(sizes(a=given, b={"latency_ms": 3}), SHAPE, 10, latency=PER_MAC)
    nearest = re.search(r"feasible is (?:[\d,]+ B and )?([\d.]+) ms", str(refused.value))[1]

    spec = solve_family(sizes(a={**given, "latency_ms": nearest}, b={"latency_ms": 3}), SHAPE, 10, latency=PER_MAC)

    assert spec.students == ("a", "b")


def test_solve_family_refuses_a_limit_of_latency_without_a_model():
    with pytest.raises(FamilyError, match=r"latency must be predicted by a latency model; got none\. Write a table"):
        solve_family(sizes(a={"latency_ms": 0.3}, b={"latency_ms": 1.2}), SHAPE, 10)


def test_resolve_budgets_combines_limits():
    found = resolve_budgets(
        sizes(a={"latency_ms": 0.1}, b={"macs": "2M", "size_bytes": "9KB", "latency_ms": 1}), SHAPE, 10, labels=50
    )

    assert found == (Budget("a", latency_ms=0.1), Budget("b", 9_000, 2_000_000, 1.0))


def test_describe_family_names_the_device_of_the_latencies(stripes):
    lines = describe_family(stripes.SPEC, PER_MAC).splitlines()

    assert lines[0].split()[-2:] == ["latency,", "about"]
    assert lines[1].endswith(f"{timed_costs(stripes.SPEC, PER_MAC)['small'].latency_ms:.3g} ms")
    assert lines[-1] == "latency of one thread on Abacus with beads 1"
