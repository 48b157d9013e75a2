# SPDX-License-Identifier: Apache-2.0
import math
import re
from dataclasses import replace

import pytest

from learn2compress.compression.family.sizing import kinds_of_blocks, size_ratios, solve_family
from learn2compress.compression.family.spec import (
    Branch,
    Conv,
    Cost,
    Fused,
    Separable,
    family_costs,
    segment_side,
    stem_side,
)
from learn2compress.compression.family.stages import (
    FEW_PIXELS_SIDE,
    FIRST_STUDENTS,
    MAX_FUSED_WIDTH,
    stage_branches,
    stage_score,
    stage_stems,
)
from learn2compress.compression.family.training_time import training_ns
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.errors import FamilyError

BUDGETS = {"a": 24_000, "b": 49_000, "c": 98_496, "d": 250_000}


def kinds(blocks) -> list[type]:
    return [type(block) for block in blocks]


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [
        ((8, 8, 1), 8, [(Conv, 1)]),
        ((28, 28, 1), 14, [(Conv, 1), (Fused, 2)]),
        ((32, 32, 3), 16, [(Conv, 1), (Fused, 2)]),
        ((64, 64, 3), 16, [(Conv, 2), (Fused, 2)]),
        ((224, 224, 3), 14, [(Conv, 2), (Fused, 2), (Fused, 2), (Fused, 2)]),
    ],
)
def test_stage_stems_halve_the_image_by_fused_blocks(shape, side, expected):
    found = dict(stage_stems(shape))

    assert list(found) == [8, 16, 24, 32, 40, 48]
    for width, stem in found.items():
        assert stem_side(shape, stem) == side
        assert stem[-1].filters == width
        assert [(type(block), block.stride) for block in stem] == expected


def test_stage_stems_refuse_images_below_4x4():
    with pytest.raises(FamilyError, match=r"at least 4x4; got 3x9\. Set data\.height and data\.width"):
        list(stage_stems((3, 9, 1)))


@pytest.mark.parametrize(("index", "last"), [(0, False), (1, False), (2, False), (2, True)])
def test_stage_branches_are_fused_only_where_pixels_are_many_and_channels_few(index, last):
    found = list(stage_branches("s", index, 16, 16, last, max_width=128))

    for branch in found:
        is_fused = segment_side(16, branch) > FEW_PIXELS_SIDE and branch.segment[0].filters <= MAX_FUSED_WIDTH
        assert set(kinds(branch.segment)) == {Fused if is_fused else Separable}
    assert any(Fused in kinds(b.segment) for b in found) == (index < FIRST_STUDENTS or last)
    assert not any(Fused in kinds(b.segment) for b in stage_branches("s", index, 8, 16, last, max_width=128))


def test_stage_branches_of_students_in_between_leave_the_resolution_of_the_trunk():
    assert {b.segment[0].stride for b in stage_branches("s", 2, 16, 16, max_width=128)} == {2}


def test_stage_branches_never_narrow_and_widen_where_they_halve_the_side():
    strided = 0
    for branch in stage_branches("s", 1, 16, 32, max_width=128):
        assert branch.segment[0].filters >= 32
        if branch.segment[0].stride == 2:
            strided += 1
            assert branch.segment[0].filters >= 48
        side = segment_side(16, branch)
        for block in branch.tail:
            side = math.ceil(side / block.stride)
        assert side >= 4
    assert strided
    assert all(block.stride == 1 for b in stage_branches("s", 0, 16, 32, max_width=128) for block in b.segment)


def test_stage_score_prefers_more_compute_in_less_time():
    shape, branch = (16, 16, 32), Branch("s", (Fused("a", 32),), (Separable("t", 64, 2),))
    cost = Cost(20_000, 3_000_000, 24_000)

    def score(cost=cost, before=1e6, growth=2.0):
        return stage_score(cost, branch, shape, before, growth, limits_bytes=True, first=False)

    assert score(before=2e6) > score()
    assert score(replace(cost, macs=4_000_000)) < score()
    assert score(replace(cost, parameters=21_000)) < score()
    # The largest student has no other that its tail would slow down.
    assert score(before=1e3, growth=1.01) - score(before=1e3, growth=1.0) > 1


@pytest.mark.parametrize(
    ("shape", "classes"),
    [((28, 28, 1), 10), ((32, 32, 3), 2), ((32, 32, 3), 100), ((96, 160, 1), 2), ((224, 224, 3), 10)],
)
def test_solve_family_by_stage_spreads_the_default_sizes(shape, classes):
    sizes = {name: StudentSize() for name in ("small", "medium", "large")}

    spec = solve_family(sizes, shape, classes, blocks="by_stage")

    assert min(size_ratios(spec)) >= 4
    assert Fused in kinds(spec.stem)
    assert Separable in kinds(spec.path("large"))


def test_solve_family_by_stage_has_more_parameters_and_takes_less_time_within_equal_bytes():
    sizes = {name: StudentSize(size_bytes=limit) for name, limit in BUDGETS.items()}

    staged, separable = (solve_family(sizes, (32, 32, 3), 10, 70, blocks) for blocks in ("by_stage", "separable"))

    after, before = family_costs(staged), family_costs(separable)
    for name, limit in BUDGETS.items():
        assert 0.9 * limit <= after[name].int8_bytes <= limit
        assert after[name].parameters > before[name].parameters
    times = [training_ns((32, 32, 3), spec.path("d"))[0] for spec in (staged, separable)]
    assert times[0] < times[1] / 1.6


@pytest.mark.parametrize("kind", ["size_bytes", "macs"])
def test_solve_family_by_stage_accepts_the_nearest_feasible_budget_of_its_message(kind):
    def solve(least):
        sizes = {"a": StudentSize(**{kind: least}), "b": StudentSize(**{kind: 5_000_000})}
        return solve_family(sizes, (32, 32, 3), 10, blocks="by_stage")

    with pytest.raises(FamilyError, match="nearest feasible") as refused:
        solve(1000)

    assert solve(re.search(r"feasible is ([\d,]+)", str(refused.value))[1]).students == ("a", "b")


@pytest.mark.parametrize("blocks", ["by_stage", "separable"])
def test_kinds_of_blocks_are_those_that_are_requested(blocks):
    assert kinds_of_blocks(blocks, (8, 8, 1)) == kinds_of_blocks(blocks, (32, 32, 3)) == blocks


def test_kinds_of_blocks_of_small_images_are_separable_by_default():
    assert kinds_of_blocks("auto", (8, 8, 1)) == kinds_of_blocks("auto", (27, 64, 3)) == "separable"
