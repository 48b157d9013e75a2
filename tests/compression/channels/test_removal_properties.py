# SPDX-License-Identifier: Apache-2.0
"""Removal of random channels of random networks, against the same network with those channels at zero."""

import numpy as np
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.networks import SHAPE, networks, silence

from learn2compress.compression.channels.groups import find_channels
from learn2compress.compression.channels.removal import remove_channels

QUICK = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def draw_kept(data, channels):
    """At least one unit of some of the groups."""
    kept = {}
    for group in channels.groups:
        if data.draw(st.booleans()):
            units = data.draw(st.sets(st.integers(0, group.width - 1), min_size=1))
            kept[group.name] = np.array(sorted(units))
    return kept


@QUICK
@given(model=networks(), data=st.data())
def test_remove_channels_equals_the_network_with_those_channels_at_zero(model, data):
    channels = find_channels(model)
    kept = draw_kept(data, channels)

    pruned = remove_channels(channels, kept)

    images = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    found = tf.nest.flatten(pruned(images))
    silence(channels, kept)
    expected = tf.nest.flatten(model(images))
    for before, after in zip(expected, found, strict=True):
        scale = max(1.0, float(np.max(np.abs(before))))
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * scale)
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    assert pruned.output_shape == model.output_shape
    removed = sum(group.width - len(kept.get(group.name, range(group.width))) for group in channels.groups)
    assert (pruned.count_params() < model.count_params()) == (removed > 0)
