# SPDX-License-Identifier: Apache-2.0
import re
from itertools import pairwise

import pytest

from learn2compress.compression.family.budgets import Budget
from learn2compress.compression.family.sizing import (
    default_large_bytes,
    describe_family,
    label_bytes,
    resolve_budgets,
    size_ratios,
    solve_family,
)
from learn2compress.compression.family.spec import family_costs, student_cost
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.errors import FamilyError


def sizes(*names: str, **given) -> dict[str, StudentSize]:
    return {name: StudentSize() for name in names} | {name: StudentSize(**size) for name, size in given.items()}


THREE = sizes("small", "medium", "large")
FIVE = sizes("tiny", "small", "medium", "large", "xlarge")


@pytest.mark.parametrize(
    ("shape", "classes"),
    [
        ((8, 8, 1), 10),
        ((8, 8, 1), 1000),
        ((12, 20, 3), 2),
        ((16, 16, 1), 3),
        ((16, 16, 3), 10),
        ((28, 28, 1), 10),
        ((32, 32, 3), 2),
        ((32, 32, 3), 100),
        ((64, 64, 3), 10),
        ((96, 160, 1), 3),
        ((224, 224, 3), 10),
        ((224, 224, 3), 1000),
        ((224, 320, 3), 2),
    ],
)
def test_default_sizes_are_four_times_apart_for_every_shape(shape, classes):
    spec = solve_family(THREE, shape, classes)

    ratios = size_ratios(spec)
    assert min(ratios) >= 4
    costs = list(family_costs(spec).values())
    assert ratios == (costs[2].int8_bytes / costs[0].int8_bytes, costs[2].macs / costs[0].macs)


@pytest.mark.parametrize("classes", [2, 100])
@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3)])
def test_five_sizes_by_name_grow_in_bytes_and_in_macs(shape, classes):
    costs = list(family_costs(solve_family(FIVE, shape, classes)).values())

    for smaller, larger in pairwise(costs):
        assert larger.int8_bytes >= 1.5 * smaller.int8_bytes
        assert larger.macs > smaller.macs


def test_budgets_in_bytes_are_kept_and_used():
    budgets = {"a": 24_000, "b": 49_000, "c": 98_496, "d": 250_000}

    spec = solve_family(sizes(**{name: {"size_bytes": b} for name, b in budgets.items()}), (32, 32, 3), 10, labels=80)

    assert spec.students == ("a", "b", "c", "d")
    assert spec.label_bytes == 80
    for name, budget in budgets.items():
        assert 0.9 * budget <= student_cost(spec, name).int8_bytes <= budget


def test_budgets_in_macs_are_kept_and_used():
    spec = solve_family(sizes(a={"macs": "2M"}, b={"macs": "9M"}), (32, 32, 3), 10)

    assert 1_800_000 <= student_cost(spec, "a").macs <= 2_000_000
    assert 8_100_000 <= student_cost(spec, "b").macs <= 9_000_000


def test_budgets_of_both_kinds_are_kept_in_the_order_given():
    spec = solve_family(sizes(a={"size_bytes": "20KB"}, b={"macs": "8M"}, c={"multiplier": 2}), (32, 32, 3), 10)

    assert spec.students == ("a", "b", "c")
    assert student_cost(spec, "a").int8_bytes <= 20_000
    assert student_cost(spec, "b").macs <= 8_000_000
    assert student_cost(spec, "c").int8_bytes <= 2 * default_large_bytes((32, 32, 3), 10)


def test_students_are_sorted_by_budget():
    spec = solve_family(sizes("large", "small"), (8, 8, 1), 10)

    assert spec.students == ("small", "large")


def test_six_students_are_placed():
    given = {name: {"multiplier": m} for name, m in zip("abcdef", (0.15, 0.3, 0.5, 0.8, 1.3, 2), strict=True)}

    costs = list(family_costs(solve_family(sizes(**given), (16, 16, 3), 10)).values())

    assert len(costs) == 6
    assert [c.int8_bytes for c in costs] == sorted(c.int8_bytes for c in costs)


def test_solve_family_subtracts_label_bytes_from_the_budget():
    by_budget = [solve_family(sizes(a={"size_bytes": "12KB"}, b={"size_bytes": "40KB"}), (8, 8, 1), 10, n)
                 for n in (0, 5000)]  # fmt: skip

    assert all(student_cost(spec, "a").int8_bytes <= 12_000 for spec in by_budget)
    assert student_cost(by_budget[1], "a").parameters < 0.7 * student_cost(by_budget[0], "a").parameters


def test_label_bytes_counts_one_line_per_name():
    assert label_bytes(["cat", "Käfer"]) == 4 + 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"a": {"size_bytes": "1KB"}, "b": {"size_bytes": "30KB"}},
            r"student 'a' must be feasible within 1,000 B; the nearest feasible is 4,\d{3} B\. Raise its budget",
        ),
        (
            {"a": {"macs": 1000}, "b": {"macs": "5M"}},
            r"student 'a' must be feasible within 1,000 MACs; the nearest feasible is \d+,\d{3} MACs",
        ),
        (
            {"a": {"size_bytes": "24KB"}, "b": {"size_bytes": "24.5KB"}},
            r"student 'b' must be feasible within 24,500 B beside 'a', whose trunk it continues and which must "
            r"be smaller; the nearest feasible is 2\d,\d{3} B",
        ),
        (
            {"a": {"size_bytes": "24KB"}, "b": {"size_bytes": "24KB"}},
            r"student 'b' must be feasible within 24,000 B beside 'a'",
        ),
        ({"a": {}, "b": {}}, r"student 'a' must be one of tiny, .* or have a size; got only a name\. Write a: \{size"),
        ({"a": {"multiplier": 1}}, r"must name at least two students; got 1\. Add a second size"),
    ],
)
def test_solve_family_refuses_infeasible_sizes(given, message):
    with pytest.raises(FamilyError, match=message):
        solve_family(sizes(**given), (8, 8, 1), 10)


@pytest.mark.parametrize("kind", ["size_bytes", "macs"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3)])
def test_solve_family_accepts_the_nearest_feasible_budget_of_its_message(shape, kind):
    with pytest.raises(FamilyError, match="nearest feasible") as refused:
        solve_family(sizes(a={kind: 1000}, b={kind: 5_000_000}), shape, 10)
    nearest = re.search(r"feasible is ([\d,]+)", str(refused.value))[1]

    spec = solve_family(sizes(a={kind: nearest}, b={kind: 5_000_000}), shape, 10)

    assert spec.students == ("a", "b")


@pytest.mark.parametrize("classes", [0, 1])
def test_solve_family_refuses_a_single_class(classes):
    with pytest.raises(FamilyError, match=f"at least two classes; got {classes}"):
        solve_family(THREE, (8, 8, 1), classes)


def test_resolve_budgets_converts_names_and_multipliers_to_bytes():
    large = default_large_bytes((32, 32, 3), 10)

    found = resolve_budgets(sizes("small", x={"multiplier": 0.7}, y={"macs": "2M"}), (32, 32, 3), 10, labels=50)

    assert found == (
        Budget("small", int8_bytes=int(0.22 * large) + 50),
        Budget("x", int8_bytes=int(0.7 * large) + 50),
        Budget("y", macs=2_000_000),
    )


def test_default_large_bytes_grow_with_the_image_and_the_classes():
    assert default_large_bytes((32, 32, 3), 10) == 96_000
    assert default_large_bytes((8, 8, 1), 10) == default_large_bytes((12, 12, 1), 10) == 36_000
    assert default_large_bytes((32, 32, 3), 110) == 96_000 + 100 * 200
    assert default_large_bytes((1000, 1000, 3), 10) == 3000 * 256


def test_describe_family_formats_a_table(stripes):
    costs = family_costs(stripes.SPEC)

    lines = describe_family(stripes.SPEC).splitlines()

    assert lines[0].split() == ["student", "parameters", "int8", "file,", "about", "MACs", "training", "step"]
    assert lines[1].split()[:2] == ["small", f"{costs['small'].parameters:,}"]
    assert lines[2].split()[0] == "large"
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[2].endswith("  1.00")
    assert lines[3].startswith("together ")
    assert re.fullmatch(r"a training step of all takes about 1\.\d\d times as long as one of large alone", lines[4])
