# SPDX-License-Identifier: Apache-2.0
"""Tells which file would be chosen under other limits: for each step of size, latency and accuracy.

The steps are those at which the choice changes, found at the figures of the candidates themselves. A value is rounded
to what a person types, in the direction in which the candidate still satisfies the limit, and the choice is made with
the rounded value.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from learn2compress.evaluation.selection import Measured, choose, validation_view
from learn2compress.schemas.errors import SelectionError
from learn2compress.schemas.reports import Choice, Evaluation, Limits
from learn2compress.schemas.units import BYTE_UNITS, parse_bytes

_DIGITS = 3  # significant digits of a size or a latency
_PER_MILLE = 1_000  # steps of accuracy


class WhatIf(NamedTuple):
    """A limit, and the choice under it."""

    options: dict[str, str]  # arguments of `pick`, such as {"max_size": "60KB"}
    choice: Choice


class _Axis(NamedTuple):
    """A figure that can be limited."""

    limit: str
    objective: str
    steps: Callable[[Iterable[Measured]], set[str]]  # values of the limit, in the form of an option
    number: Callable[[str], float]


def list_what_ifs(evaluation: Evaluation, correctness: Mapping[str, np.ndarray] | None = None) -> list[WhatIf]:
    """List the limits at which the choice changes.

    Sizes and latencies are limited from above, with the objective accuracy; accuracies from below, with the objective
    size. Latencies are left out if none was measured.

    Args:
        evaluation: The measurements.
        correctness: Correctness by candidate, [validation images] bool; see `selection.choose`.

    Returns:
        The limits and their choices, by limit, the strictest size and latency and the lowest accuracy first.
    """
    measured = validation_view(evaluation).measured
    return [row for axis in _AXES for row in _along(axis, measured, evaluation, correctness)]


def _along(
    axis: _Axis, measured: list[Measured], evaluation: Evaluation, correctness: Mapping[str, np.ndarray] | None
) -> list[WhatIf]:
    rows: list[WhatIf] = []
    for text in sorted(axis.steps(measured), key=axis.number):
        try:
            limits = Limits.model_validate({axis.limit: axis.number(text)})
            choice = choose(evaluation, limits, axis.objective, correctness)
        except SelectionError:
            continue
        objective = {} if axis.objective == "accuracy" else {"objective": axis.objective}
        row = WhatIf({axis.limit: text, **objective}, choice)
        if rows and rows[-1].choice.chosen == choice.chosen:
            if axis.limit != "min_accuracy":
                continue
            rows.pop()  # the highest accuracy that the same file reaches says more
        rows.append(row)
    return rows


def _sizes(measured: Iterable[Measured]) -> set[str]:
    return {_round_size(m.bytes) for m in measured}


def _latencies(measured: Iterable[Measured]) -> set[str]:
    return {f"{_round_up(m.latency_ms):g}" for m in measured if m.latency_ms}


def _accuracies(measured: Iterable[Measured]) -> set[str]:
    # The tolerance absorbs the rounding error of the product.
    return {f"{math.floor(m.accuracy * _PER_MILLE + 1e-6) / _PER_MILLE:g}" for m in measured}


def _round_size(size: int) -> str:
    """Write a size that is not below the given one, such as 23.8KB."""
    unit = next((unit for unit in ("B", "KB") if size < 1_000 * BYTE_UNITS[unit]), "MB")
    return f"{size if unit == 'B' else _round_up(size / BYTE_UNITS[unit]):g}{unit}"


def _round_up(value: float) -> float:
    """Round up to `_DIGITS` significant digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - _DIGITS + 1)
    return round(math.ceil(value / step - 1e-9) * step, 12)


_AXES = (
    _Axis("max_size", "accuracy", _sizes, parse_bytes),
    _Axis("max_latency_ms", "accuracy", _latencies, float),
    _Axis("min_accuracy", "size", _accuracies, float),
)
