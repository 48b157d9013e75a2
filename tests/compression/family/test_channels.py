# SPDX-License-Identifier: Apache-2.0
from learn2compress.compression.family.channels import with_widths
from learn2compress.compression.family.spec import Branch, Conv, FamilySpec, Separable, family_costs


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
