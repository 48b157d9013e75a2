# SPDX-License-Identifier: Apache-2.0
"""Predicts the latency of an operation from its kind and shape, with coefficients fitted to measured operations.

A runtime computes a convolution in tiles: so many pixels by so many output channels, over input channels in groups. A
shape that does not fill its tiles takes as long as one that does, so each size is rounded up to a tile, [x]. With P
pixels, C input and K output channels, a kernel of k pixels and a stride s, the microseconds of a convolution are

    a0 + a1 [P]k + a2 [P]k[C] + a3 [P]k[K] + a4 [P]k[C][K] + a5 k[C][K] + a6 PK + a7 PCs²

that is: a fixed part, the tiles, reading the weights, and writing and reading the feature maps. Other kinds have fewer
terms. No coefficient is negative, so that a larger operation is never predicted to be faster; they and the tiles are
those with the least relative error on the measured operations (`fit`). The latency of a file is that of an invocation
and the sum over its operations.

Source: roofline model, Williams et al., Communications of the ACM 52(4), 2009; tiles: XNNPACK's microkernels,
https://github.com/google/XNNPACK
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from learn2compress.evaluation.latency.operations import KINDS, Kind, Operation
from learn2compress.schemas.errors import ConfigError

_DIGITS = 6  # of a coefficient, so that its text is short and is read back as the same number
_CONVOLUTION_TILES = ((1, 4, 8, 16), (1, 4, 8, 16, 32, 64), (1, 8, 16, 32, 64, 128))
_CHANNEL_TILES = ((1,), (1,), (1, 4, 8, 16, 32, 64))
_TILES: dict[Kind, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "conv": _CONVOLUTION_TILES,
    "pointwise": _CONVOLUTION_TILES,
    "dense": ((1,), (1, 8, 64), (1, 8, 16, 32, 64)),
}
LEAST_OPERATIONS = 4
"""Number of measured operations of a kind that a fit needs at least."""


class Measured(NamedTuple):
    """The latency of a file that consists of one operation.

    Attributes:
        operation: The operation.
        ms: Milliseconds of an invocation.
        times: Number of repetitions of the operation in the file.
    """

    operation: Operation
    ms: float
    times: int = 1


class Terms(NamedTuple):
    """The fitted terms of a kind of operation.

    Attributes:
        tiles: Pixels, input channels and output channels of a tile.
        microseconds: Coefficients, see the module.
    """

    tiles: tuple[int, int, int]
    microseconds: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """The fitted latencies of a device.

    Attributes:
        device: Name of the device, for the reader.
        runtime: Name and version of the runtime.
        invocation: Microseconds of an invocation without operations.
        terms: Fitted terms by kind of operation.
    """

    device: str
    runtime: str
    invocation: float
    terms: Mapping[Kind, Terms]

    def operation_ms(self, operation: Operation) -> float:
        """Predict the milliseconds of an operation.

        Raises:
            ConfigError: No operation of the kind was measured.
        """
        terms = self.terms.get(operation.kind)
        if terms is None:
            raise ConfigError(
                f"the latency table of {self.device} must hold operations of the kind {operation.kind!r}; got "
                f"{', '.join(self.terms)}. Measure it again: learn2compress bench --operations."
            )
        return sum(a * x for a, x in zip(terms.microseconds, _sizes(operation, terms.tiles), strict=True)) / 1000

    def file_ms(self, operations: Iterable[Operation]) -> float:
        """Predict the milliseconds of an invocation of a file with these operations."""
        return self.invocation / 1000 + sum(self.operation_ms(operation) for operation in operations)


def coefficients_of(kind: Kind) -> int:
    """Return the number of terms of a kind of operation."""
    return len(_sizes(Operation(kind, 1, 1, 1, 1), (1, 1, 1)))


def fit(device: str, runtime: str, measured: Sequence[Measured]) -> LatencyModel:
    """Fit a model to measured operations.

    Args:
        device: Name of the device.
        runtime: Name and version of the runtime.
        measured: Operations of each kind that is to be predicted, and one of them both alone and repeated in a file,
            from which the share of the invocation follows.

    Raises:
        ConfigError: There are too few operations of a kind, or none is repeated.
    """
    invocation = _invocation(measured)
    single = [one for one in measured if one.times == 1]
    terms: dict[Kind, Terms] = {}
    for kind in KINDS:
        rows = [one for one in single if one.operation.kind == kind]
        if rows and len(rows) < LEAST_OPERATIONS:
            raise ConfigError(
                f"a latency table must hold at least {LEAST_OPERATIONS} operations of a kind; got {len(rows)} of "
                f"{kind!r}. Measure more, of different shapes."
            )
        if rows:
            terms[kind] = _fit_kind(kind, rows, invocation)
    return LatencyModel(device, runtime, _rounded(invocation), terms)


def _invocation(measured: Sequence[Measured]) -> float:
    """Compute the microseconds of an invocation from an operation that was measured alone and repeated."""
    alone = {one.operation: one.ms for one in measured if one.times == 1}
    for one in measured:
        if one.times > 1 and one.operation in alone:
            each = (one.ms - alone[one.operation]) / (one.times - 1)
            least = min(alone.values())
            return min(max(alone[one.operation] - each, 0.0), least) * 1000
    raise ConfigError(
        "a latency table must hold an operation both alone and repeated in one file (times above 1), from which the "
        "share of the invocation follows; got none. Measure one."
    )


def _fit_kind(kind: Kind, rows: Sequence[Measured], invocation: float) -> Terms:
    """Find the tiles and coefficients with the least mean square of the relative errors."""
    whole = np.array([one.ms * 1000 for one in rows])
    wanted = (whole - invocation) / whole
    best, found = np.inf, None
    pixels, inputs, outputs = _TILES.get(kind, _CHANNEL_TILES)
    for tiles in product(pixels, inputs, outputs):
        sizes = np.array([_sizes(one.operation, tiles) for one in rows]) / whole[:, None]
        coefficients = _nonnegative_least_squares(sizes, wanted)
        error = float(np.square(sizes @ coefficients - wanted).sum())
        if error < best * (1 - 1e-9):  # of equally good tiles, the smallest
            best, found = error, Terms(tiles, tuple(_rounded(value) for value in coefficients.tolist()))
    assert found is not None  # there are tiles of each kind
    return found


def _sizes(one: Operation, tiles: Sequence[int]) -> tuple[float, ...]:
    """Compute what the terms of an operation are multiplied by."""
    pixels, taps = one.pixels, one.kernel**2
    tiled, inputs, outputs = (
        _up(size, tile) for size, tile in zip((pixels, one.inputs, one.outputs), tiles, strict=True)
    )
    if one.kind in ("conv", "pointwise"):
        return (
            1, tiled * taps, tiled * taps * inputs, tiled * taps * outputs, tiled * taps * inputs * outputs,
            taps * inputs * outputs, pixels * one.outputs, pixels * one.inputs * one.stride**2,
        )  # fmt: skip
    if one.kind == "depthwise":
        return 1, pixels * taps, pixels * taps * outputs, taps * outputs, pixels * one.inputs * one.stride**2
    if one.kind == "dense":
        return 1, inputs, outputs, inputs * outputs
    if one.kind == "softmax":
        return 1, outputs
    return 1, pixels, outputs, pixels * outputs


def _up(size: int, tile: int) -> int:
    return -(-size // tile) * tile


def _nonnegative_least_squares(columns: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Fit coefficients of least squares, leaving out the column with the most negative one until there is none.

    Args:
        columns: [rows, coefficients].
        wanted: [rows].
    """
    scale = np.sqrt(np.square(columns).sum(axis=0))
    kept = list(range(columns.shape[1]))
    found = np.zeros(columns.shape[1])
    while kept:
        values = np.linalg.lstsq(columns[:, kept] / scale[kept], wanted, rcond=None)[0]
        if (values >= 0).all():
            found[kept] = values / scale[kept]
            break
        kept.pop(int(np.argmin(values)))
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
