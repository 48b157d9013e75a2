# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from learn2compress.compression.training.schedules import cosine_with_warmup, moving_average_decay


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (8, 0.5), (12, 0.0), (99, 0.0), (6, 0.5 * (1 + math.cos(math.pi / 4)))],
)
def test_cosine_rises_for_the_warm_up_then_falls_to_zero(step, rate):
    assert cosine_with_warmup(step, 12, 1.0, warmup_steps=4) == pytest.approx(rate)


def test_cosine_starts_at_the_peak_without_a_warm_up():
    assert cosine_with_warmup(0, 10, 4e-3) == pytest.approx(4e-3)


def test_cosine_accepts_a_warm_up_as_long_as_the_training():
    assert [cosine_with_warmup(step, 3, 3.0, 3) for step in range(4)] == [1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (8, 0.5), (79, 80 / 89), (10_000, 0.99)])
def test_moving_average_decay_starts_low_and_ends_at_its_limit(step, decay):
    assert moving_average_decay(step, 0.99) == pytest.approx(decay)
