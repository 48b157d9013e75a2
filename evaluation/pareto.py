# SPDX-License-Identifier: Apache-2.0
"""Computes the Pareto front of accuracy against a cost, and its knee, as pure functions on points.

A point dominates another if it is at least as accurate and at most as costly, and better in one of the two. Of points
that are equal in both, the first one is on the front and the others count as dominated by it. The order of the points,
which the caller chooses, therefore resolves ties.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """The accuracy and the cost of a candidate."""

    accuracy: float  # fraction, more is better
    cost: float  # bytes, MACs or milliseconds, less is better


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Find the points that no other point dominates.

    Args:
        points: In the order that resolves ties.

    Returns:
        Indices, cheapest first, with rising accuracy.
    """
    front: list[int] = []
    best = -math.inf
    for index in sorted(range(len(points)), key=lambda i: (points[i].cost, -points[i].accuracy, i)):
        if points[index].accuracy > best:
            best = points[index].accuracy
            front.append(index)
    return front


def dominator(points: Sequence[Point], index: int, front: Sequence[int]) -> int | None:
    """Find the point of the front that dominates a point: the most accurate one, or the cheapest of several.

    Args:
        points: As given to `pareto_front`.
        index: Index of the point.
        front: Result of `pareto_front`.

    Returns:
        Index of the dominating point, or None if the point is on the front.
    """
    if index in front:
        return None
    own = points[index]
    above = [i for i in front if points[i].accuracy >= own.accuracy and points[i].cost <= own.cost]
    return max(above, key=lambda i: (points[i].accuracy, -points[i].cost))


def knee(front: Sequence[Point]) -> int:
    """Find the knee of the front: the point with the largest distance above the line between its ends.

    The cost is taken on a logarithmic scale, since the sizes of a family span an order of magnitude, and both axes
    are scaled to [0, 1]. If no point lies above the line (as in a front of two points), the more accurate end is the
    knee; of points at equal distance, the cheaper one is.

    Args:
        front: At least one point, cheapest first, all costs above zero.

    Returns:
        Index into `front`.

    Source: Satopää et al., 2011, Finding a "Kneedle" in a haystack, doi:10.1109/ICDCSW.2011.20.
    """
    first, last = front[0], front[-1]
    width, height = math.log(last.cost / first.cost), last.accuracy - first.accuracy
    if len(front) < 3 or width <= 0 or height <= 0:
        return len(front) - 1
    above = [(point.accuracy - first.accuracy) / height - math.log(point.cost / first.cost) / width for point in front]
    highest = max(range(len(front)), key=lambda i: (round(above[i], 12), -i))
    return highest if above[highest] > 1e-12 else len(front) - 1
