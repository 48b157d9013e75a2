# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st
from support.strategies.properties import examples

from learn2compress.compression.family.sizing import default_large_bytes, size_ratios, solve_family
from learn2compress.compression.family.spec import Cost, family_costs
from learn2compress.schemas.config import Blocks, StudentSize
from learn2compress.schemas.errors import FamilyError

Shape = tuple[int, int, int]
SHAPES = st.tuples(st.sampled_from([8, 12, 16, 28, 32, 48, 96, 224]), st.integers(8, 224), st.sampled_from([1, 3]))
CLASSES = st.integers(2, 1000)
BLOCKS = st.sampled_from(["by_stage", "separable"])


@st.composite
def budgets(draw: st.DrawFn, shape: Shape, classes: int) -> list[int]:
    """Draw the bytes of two to four students in a geometric sequence, the largest at least four times the smallest."""
    count = draw(st.integers(2, 4))
    largest = default_large_bytes(shape, classes) * draw(st.floats(0.7, 2))
    ratio = draw(st.floats(4, 12))
    return [int(largest / ratio ** (1 - index / (count - 1))) for index in range(count)]


def solve(limits: list[int], shape: Shape, classes: int, blocks: Blocks) -> list[Cost] | None:
    """Solve for a family; return the costs of its students, or None if the smallest budget is not feasible."""
    sizes = {f"student{index}": StudentSize(size_bytes=limit) for index, limit in enumerate(limits)}
    try:
        return list(family_costs(solve_family(sizes, shape, classes, blocks=blocks)).values())
    except FamilyError as error:
        if "feasible" not in str(error):
            raise
        return None


@examples(10)
@given(shape=SHAPES, classes=CLASSES, blocks=BLOCKS, data=st.data())
def test_solve_family_keeps_and_uses_budgets_and_spreads_the_students(
    shape: Shape, classes: int, blocks: Blocks, data: st.DataObject
) -> None:
    limits = data.draw(budgets(shape, classes))
    costs = solve(limits, shape, classes, blocks)
    assume(costs is not None)

    assert all(0.9 * limit <= cost.predicted_bytes <= limit for cost, limit in zip(costs, limits, strict=True))
    for smaller, larger in pairwise(costs):
        assert larger.predicted_bytes >= 1.1 * smaller.predicted_bytes
        assert larger.macs > smaller.macs
    assert costs[-1].predicted_bytes >= 0.9 * 4 * costs[0].predicted_bytes
    assert costs[-1].macs >= 4 * costs[0].macs


@examples(5)
@given(shape=SHAPES, classes=CLASSES, growth=st.floats(1 / 0.9, 3), blocks=BLOCKS, data=st.data())
def test_solve_family_gives_a_larger_budget_a_larger_student(
    shape: Shape, classes: int, growth: float, blocks: Blocks, data: st.DataObject
) -> None:
    limits = data.draw(budgets(shape, classes))
    before = solve(limits, shape, classes, blocks)
    after = solve([*limits[:-1], int(growth * limits[-1]) + 1], shape, classes, blocks)
    assume(before is not None)

    assert after is not None
    assert after[-1].predicted_bytes >= before[-1].predicted_bytes


@examples(8)
@given(shape=SHAPES, classes=CLASSES, blocks=BLOCKS)
def test_sizes_by_name_are_four_times_apart_in_bytes_and_macs(shape: Shape, classes: int, blocks: Blocks) -> None:
    sizes = {name: StudentSize() for name in ("small", "medium", "large")}
    spec = solve_family(sizes, shape, classes, blocks=blocks)

    assert min(size_ratios(spec)) >= 4
