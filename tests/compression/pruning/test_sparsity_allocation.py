# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.compression.pruning.sparsity_allocation import (
    allocate_sparsity,
    loss_of_channels,
    sensitivity_coefficient,
)
from learn2compress.schemas.manifests import Drop, LayerSensitivity


def layer(name, weights, divergence, students=("large",)):
    """A layer with the same divergence for a quarter, a half and three quarters of zeros."""
    zeros = [Drop(share=s, accuracy_drop=0.0, divergence=divergence) for s in (0.25, 0.5, 0.75)]
    return LayerSensitivity(layer=name, type="Conv2D", weights=weights, students=students, zeros=zeros, int8=None)


def total(layers, found, student):
    own = [one for one in layers if student in one.students]
    return sum(found[one.layer] * one.weights for one in own) / sum(one.weights for one in own)


def test_sensitivity_coefficient_is_the_measured_divergence_over_that_of_the_formula():
    # s²/(1-s): 1/12, 1/2, 9/4, together 17/6.
    assert sensitivity_coefficient(layer("a", 1, 0.5).zeros) == pytest.approx(1.5 / (17 / 6))


def test_allocate_sparsity_gives_equal_layers_the_same():
    layers = [layer("a", 100, 0.1), layer("b", 100, 0.1)]

    assert allocate_sparsity(layers, 0.5, ["large"]) == pytest.approx({"a": 0.5, "b": 0.5})


def test_allocate_sparsity_gives_sensitive_layers_less_and_reaches_the_target():
    layers = [layer("tough", 1000, 0.05), layer("middle", 500, 0.1), layer("tender", 300, 0.2)]

    found = allocate_sparsity(layers, 0.5, ["large"])

    assert found["tough"] > 0.5 > found["tender"]
    assert found["tough"] > found["middle"] > found["tender"]
    assert total(layers, found, "large") == pytest.approx(0.5, abs=1e-6)


def test_allocate_sparsity_gives_one_more_zero_the_same_effect_everywhere():
    layers = [layer("a", 400, 0.1), layer("b", 300, 0.12)]

    found = allocate_sparsity(layers, 0.6, ["large"])

    margins = [
        sensitivity_coefficient(one.zeros) * (2 * s - s**2) / (1 - s) ** 2 / one.weights
        for one in layers
        for s in [found[one.layer]]
    ]
    assert margins[0] == pytest.approx(margins[1])


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75, 0.9])
def test_allocate_sparsity_stays_within_half_and_twice_of_the_uniform_allocation(sparsity):
    layers = [layer("tough", 1000, 0.0), layer("tender", 1000, 50.0), layer("middle", 1000, 0.1)]

    found = allocate_sparsity(layers, sparsity, ["large"])

    assert all(0 <= s <= 1 - (1 - sparsity) / 2 + 1e-9 for s in found.values())
    assert all(1 - s <= 2 * (1 - sparsity) + 1e-9 for s in found.values())
    assert total(layers, found, "large") == pytest.approx(sparsity, abs=1e-6)


def test_allocate_sparsity_lets_each_student_reach_the_target():
    both, small, large = ("small", "large"), ("small",), ("large",)
    layers = [
        layer("trunk", 400, 0.2, both),
        layer("small_tail", 300, 0.05, small),
        layer("more_trunk", 2000, 0.1, large),
        layer("large_tail", 1500, 0.02, large),
        LayerSensitivity(layer="dense", type="DepthwiseConv2D", weights=90, students=both, zeros=[], int8=None),
    ]

    found = allocate_sparsity(layers, 0.75, ["small", "large"])

    assert "dense" not in found
    assert total(layers[:-1], found, "small") == pytest.approx(0.75, abs=1e-6)
    assert total(layers[:-1], found, "large") == pytest.approx(0.75, abs=1e-6)


def test_allocate_sparsity_comes_near_when_shared_layers_have_too_few_zeros():
    layers = [layer("trunk", 1000, 9.0, ("small", "large")), layer("small_tail", 1000, 0.01, ("small",))]
    layers += [layer("rest", 100, 0.1, ("large",))]

    found = allocate_sparsity(layers, 0.5, ["small", "large"])

    assert found["rest"] == 0.98


def drops(*divergences):
    return [Drop(share=s, accuracy_drop=0.0, divergence=d) for s, d in zip((0.25, 0.5, 0.75), divergences, strict=True)]


def test_loss_of_channels_is_that_of_zeros_with_the_measured_coefficient():
    found = np.cumsum(loss_of_channels(np.arange(1, 17), drops(0.5, 0.5, 0.5)))

    np.testing.assert_allclose(found[[3, 7, 11]], 1.5 / (17 / 6) * np.array([1 / 12, 1 / 2, 9 / 4]))
    assert np.all(np.diff(found, 2)[:-1] > 0), "each further channel costs more"
    assert np.isinf(found[-1])


def test_loss_of_dead_channels_is_zero():
    importance = np.array([2.0, 0.0, 1.0, 0.0, 3.0, 0.0, 4.0, 5.0])

    assert np.flatnonzero(loss_of_channels(importance, drops(0.0, 0.1, 3.0)) == 0).tolist() == [0, 1, 2]
    assert not np.any(loss_of_channels(np.zeros(4), drops(0.0, 0.0, 0.0)))


def test_channels_without_importance_are_not_free_if_their_removal_was_measured_to_matter():
    """As with a gradient of zero, where a student equals its teacher."""
    assert np.all(loss_of_channels(np.zeros(8), drops(0.1, 0.4, 2.0)) > 0)
