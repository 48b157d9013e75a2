# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.evaluation.pareto import Point, dominator, knee, pareto_front


def test_pareto_front_keeps_undominated_points_cheapest_first():
    points = [Point(0.90, 100), Point(0.80, 20), Point(0.79, 30), Point(0.85, 50), Point(0.85, 60)]
    assert pareto_front(points) == [1, 3, 0]


def test_pareto_front_keeps_the_first_when_points_are_equal():
    points = [Point(0.9, 10), Point(0.9, 10), Point(0.8, 5)]
    assert pareto_front(points) == [2, 0]
    assert dominator(points, 1, [2, 0]) == 0


def test_pareto_front_drops_the_less_accurate_when_costs_are_equal():
    assert pareto_front([Point(0.7, 10), Point(0.9, 10)]) == [1]


def test_pareto_front_of_nothing_is_empty():
    assert pareto_front([]) == []


def test_dominator_is_the_most_accurate_that_costs_no_more():
    points = [Point(0.7, 10), Point(0.8, 20), Point(0.9, 40), Point(0.6, 30)]
    assert dominator(points, 3, pareto_front(points)) == 1


def test_dominator_is_none_when_the_point_is_on_the_front():
    points = [Point(0.7, 10), Point(0.8, 20)]
    assert dominator(points, 0, pareto_front(points)) is None


def test_knee_is_highest_above_the_line():
    # On log2 cost 0, 1, 2, 3 the line is 0, 1/3, 2/3, 1; accuracies scale to 0, 0.5, 0.9, 1: heights 1/6 and
    # 0.233.
    front = [Point(0.80, 10), Point(0.85, 20), Point(0.89, 40), Point(0.90, 80)]
    assert knee(front) == 2


@pytest.mark.parametrize("accuracies", [[0.8], [0.8, 0.9], [0.80, 0.81, 0.90], [0.8, 0.85, 0.9]])
def test_knee_is_the_accurate_end_when_nothing_lies_above_the_line(accuracies):
    front = [Point(accuracy, 10 * 2**i) for i, accuracy in enumerate(accuracies)]
    assert knee(front) == len(front) - 1


def test_knee_is_the_cheaper_when_two_are_equally_high():
    # Scaled accuracies 0, 0.5, 0.75 + 1/12, 1 on the line 0, 1/3, 2/3, 1: both 1/6 above.
    front = [Point(0.0, 1), Point(3 / 6, 2), Point(5 / 6, 4), Point(1.0, 8)]
    assert knee(front) == 1
