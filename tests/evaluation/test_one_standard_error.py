# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.evaluation.one_standard_error import paired_difference


def correctness(only_first, only_second, images=1000):
    """Correctness of two candidates that differ on some images, half of the others being correct for both."""
    first, second = np.zeros((2, images), bool)
    first[:only_first] = True
    second[only_first : only_first + only_second] = True
    both = only_first + only_second + (images - only_first - only_second) // 2
    first[only_first + only_second : both] = second[only_first + only_second : both] = True
    return first, second


def test_paired_difference_equals_a_calculation_by_hand():
    # d = 1, 1, -1, 0: mean 1/4, variance 11/12 with n - 1.
    difference = paired_difference(np.array([1, 1, 0, 1], bool), np.array([0, 0, 1, 1], bool))

    assert difference.mean == pytest.approx(0.25)
    assert difference.standard_error == pytest.approx((11 / 12) ** 0.5 / 2)
    assert difference.images == 4


@pytest.mark.parametrize(
    ("only_first", "only_second", "negligible"),
    [
        (0, 0, True),  # the same on every image
        (10, 10, True),  # as many flips in both directions
        (10, 7, True),  # 0.30 points with a standard error of 0.41
        (12, 7, False),  # 0.50 points with a standard error of 0.44
        (5, 0, False),  # 0.50 points with a standard error of 0.22
        (220, 200, True),  # 2.0 points with a standard error of 2.05: exactly the largest drop
        (240, 218, False),  # 2.2 points with a standard error of 2.1
        (7, 10, True),  # the second is more accurate
    ],
)
def test_difference_is_negligible_within_one_standard_error(only_first, only_second, negligible):
    assert paired_difference(*correctness(only_first, only_second)).is_negligible == negligible


def test_difference_is_not_negligible_beyond_two_points_when_images_are_few():
    # 3.3 points on 30 images, with a standard error of 3.3.
    assert not paired_difference(*correctness(1, 0, images=30)).is_negligible


def test_difference_is_not_negligible_on_a_single_image():
    assert not paired_difference(np.array([True]), np.array([True])).is_negligible
