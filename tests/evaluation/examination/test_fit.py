# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.evaluation.examination.fit import best_class_order, knows_validation


@pytest.mark.parametrize(
    ("validation", "images", "test", "expected"),
    [
        (1.0, 288, 0.971, True),
        (1.0, 288, 0.961, True),
        (1.0, 144, 0.99, False),  # within a percentage point
        (1.0, 20, 0.961, False),  # too few images to tell
        (0.95, 288, 0.971, False),
        (1.0, 288, 1.0, False),
    ],
)
def test_knows_validation_follows_the_z_test(validation, images, test, expected):
    assert knows_validation(validation, images, test, 360) is expected


def test_knows_validation_rarely_says_so_of_equal_accuracies():
    rng = np.random.default_rng(0)
    drawn = [(rng.binomial(300, 0.9) / 300, rng.binomial(360, 0.9) / 360) for _ in range(2000)]
    said = sum(knows_validation(validation, 300, test, 360) for validation, test in drawn)
    assert said / len(drawn) < 0.012  # the normal tail beyond 2.5 is 0.6 %


def test_best_class_order_is_found_where_classes_take_turns():
    labels = np.arange(80) % 4
    order = np.array([1, 3, 0, 2])
    assert best_class_order(order[labels], labels, 4, 4) == (1.0, (1, 3, 0, 2))


def test_best_class_order_is_not_found_in_noise():
    rng = np.random.default_rng(0)
    score, _ = best_class_order(rng.integers(0, 10, 60), rng.integers(0, 10, 60), 10, 10)
    assert score < 0.25
