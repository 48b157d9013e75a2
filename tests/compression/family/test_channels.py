# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.compression.family.channels import ChannelGroup, channel_groups, with_widths
from learn2compress.compression.family.spec import Branch, Conv, FamilySpec, Separable, family_costs, is_residual


def test_channel_groups_contain_the_residual_blocks_that_add_to_them(stripes):
    both, small, large = ("small", "large"), ("small",), ("large",)

    assert channel_groups(stripes.SPEC) == (
        ChannelGroup("stem", ("stem", "trunk1_1"), 8, both),
        ChannelGroup("small_tail1", ("small_tail1",), 16, small),
        ChannelGroup("trunk2_1", ("trunk2_1", "trunk2_2"), 16, large),
        ChannelGroup("large_tail1", ("large_tail1",), 24, large),
    )


def test_channel_groups_exclude_the_channels_of_the_image():
    spec = FamilySpec((8, 8, 3), 2, (Separable("first", 3),), (Branch("only", (Conv("next", 16),), ()),))

    assert is_residual(spec.stem[0], 3)
    assert [group.name for group in channel_groups(spec)] == ["next"]


@pytest.mark.parametrize(("width", "min_width"), [(4, 4), (8, 8), (24, 8), (96, 12), (100, 12), (320, 32)])
def test_min_width_is_eight_or_a_tenth_in_multiples_of_four(width, min_width):
    assert ChannelGroup("g", ("g",), width, ("s",)).min_width == min_width


def test_with_widths_changes_all_blocks_of_a_group_and_their_cost(stripes):
    thin = with_widths(stripes.SPEC, {"trunk2_1": 12, "large_tail1": 20})

    assert [block.filters for block in thin.path("large")] == [8, 8, 12, 12, 20]
    before, after = family_costs(stripes.SPEC), family_costs(thin)
    assert after["small"] == before["small"]
    assert after["large"].int8_bytes < before["large"].int8_bytes
    assert with_widths(stripes.SPEC, {}) == stripes.SPEC


def test_with_widths_returns_none_when_a_block_becomes_residual():
    blocks = (Separable("a", 16), Separable("b", 24))
    spec = FamilySpec((8, 8, 1), 2, (Conv("stem", 8),), (Branch("only", blocks, ()),))

    assert with_widths(spec, {"b": 16}) is None
    assert with_widths(spec, {"a": 12, "b": 12}) is None
    assert with_widths(spec, {"a": 12, "b": 16}) is not None
