# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.compression.family.spec import Conv, Fused, Separable
from learn2compress.compression.family.training_time import relative_step_times, training_ns


def test_training_ns_adds_up_over_blocks():
    first, second = (Conv("stem", 8), Fused("down1", 16, 2)), (Fused("a", 16), Separable("b", 24))
    shape = (32, 32, 3)

    whole, end = training_ns(shape, (*first, *second))
    before, middle = training_ns(shape, first)
    behind, last = training_ns(middle, second)

    assert whole == pytest.approx(before + behind)
    assert (middle, end, last) == ((16, 16, 16), (16, 16, 24), (16, 16, 24))


def test_training_ns_is_less_for_a_mac_of_a_fused_block_than_of_a_separable_one():
    shape = (16, 16, 32)
    fused, separable = Fused("a", 32), Separable("a", 32)

    each = [training_ns(shape, (block,))[0] / macs for block, macs in ((fused, 9 * 32), (separable, 9 + 32))]

    assert each[0] < 0.3 * each[1]


def test_relative_step_times_count_shared_blocks_once(stripes):
    spec = stripes.FUSED
    whole = {name: training_ns(spec.input_shape, spec.path(name))[0] for name in spec.students}
    _, end = training_ns(spec.input_shape, (*spec.stem, *spec.branches[0].segment))
    tail = training_ns(end, spec.branches[0].tail)[0]

    alone, together = relative_step_times(spec)

    assert alone == {"small": pytest.approx(whole["small"] / whole["large"]), "large": 1}
    assert together == pytest.approx((whole["large"] + tail) / whole["large"])
