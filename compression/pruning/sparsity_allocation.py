# SPDX-License-Identifier: Apache-2.0
"""Allocates a global sparsity to layers, and the removal of channels to groups, by their sensitivity.

If a fraction s of the n weights of a layer is zero, the increase of the loss is modelled as a · s² / (1 - s): small at
first, and unbounded at the end. The coefficient a is the measured divergence divided by the formula's value for a = 1.
For a given number of zeros, the total is least if one more zero has the same effect in all layers, that is
a · (2s - s²) / (1 - s)² = k · n with one k for all layers, or s = 1 - 1 / √(1 + k · n / a). The k that gives the right
number of zeros is found by bisection.

Since each layer was measured alone and before any training, the number of weights that a layer keeps is limited to
between half and twice that of a uniform allocation.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from learn2compress.schemas.manifests import Drop, LayerSensitivity

_LEAST_DIVERGENCE = 1e-3  # nats; smaller values measured on a few hundred images are noise
_DEAD = 1e-9  # of the largest importance of a group
_HALVINGS = 60  # of the interval in the bisection
_MOST = 0.98  # largest sparsity of a layer, unless the uniform allocation is larger


def allocate_sparsity(layers: Sequence[LayerSensitivity], sparsity: float, students: Iterable[str]) -> dict[str, float]:
    """Allocates a sparsity to each layer.

    Args:
        layers: Measured sensitivity of the layers; those without measurements of zeros are not pruned.
        sparsity: Fraction of zeros over all pruned kernels of each student.
        students: Names of the students, smallest first: the sparsity of a shared layer is set with the smallest
            student that has it.

    Returns:
        Sparsity by layer. Each student has the given sparsity, as near as the bounds allow.
    """
    found: dict[str, float] = {}
    for student in students:
        own = [layer for layer in layers if layer.zeros and student in layer.students]
        free = [layer for layer in own if layer.layer not in found]
        zeros = sparsity * sum(layer.weights for layer in own)
        zeros -= sum(found[layer.layer] * layer.weights for layer in own if layer.layer in found)
        sizes = np.array([layer.weights for layer in free], float)
        coefficients = np.array([sensitivity_coefficient(layer.zeros) for layer in free])
        shares = _equal_margins(sizes, coefficients, zeros, sparsity) if free else ()
        found |= {layer.layer: float(share) for layer, share in zip(free, shares, strict=True)}
    return found


def sensitivity_coefficient(zeros: Sequence[Drop]) -> float:
    """Computes the coefficient a of a layer: sum of the measured divergences over the sum of the formula's values."""
    measured = sum(max(drop.divergence, _LEAST_DIVERGENCE) for drop in zeros)
    return measured / sum(drop.share**2 / (1 - drop.share) for drop in zeros)


def loss_of_channels(importance: np.ndarray, removed: Sequence[Drop]) -> np.ndarray:
    """Computes the increase of the loss by each channel of a group, the least important one first.

    The sum over the channels that are removed is a · s² / (1 - s), as for zeros. Importance orders the channels of a
    group only: sums of it tend to have nearly all of the loss in a few channels, so that a group would be emptied of
    the others at once, which training makes good less well than a smaller loss in each of several groups. Only channels
    without any importance are free, if the measurement does not contradict: the gradient of a student that equals its
    teacher is zero as well, and then importance says nothing.

    Args:
        importance: Importance of the channels [width].
        removed: Measured effect of removing shares of them.

    Returns:
        [width] float64, not negative; infinite for the last one, unless it is free.
    """
    width = len(importance)
    shares = np.arange(width) / width
    losses = np.append(np.diff(sensitivity_coefficient(removed) * shares**2 / (1 - shares)), np.inf)
    dead = np.count_nonzero(importance <= _DEAD * importance.max())
    if all(drop.divergence < _LEAST_DIVERGENCE for drop in removed if round(drop.share * width) <= dead):
        losses[:dead] = 0
    return losses


def _equal_margins(sizes: np.ndarray, coefficients: np.ndarray, zeros: float, sparsity: float) -> np.ndarray:
    """Computes fractions of zeros in [low, high], `zeros` in total; one more zero has the same effect anywhere."""
    low, high = max(0.0, 1 - 2 * (1 - sparsity)), max(sparsity, min(_MOST, 1 - (1 - sparsity) / 2))
    if not low * sizes.sum() < zeros < high * sizes.sum():
        # The shared layers have so many or so few zeros that the bounds cannot hold: allocate uniformly.
        return np.full(len(sizes), np.clip(zeros / sizes.sum(), 0.0, max(sparsity, _MOST)))

    def shares(exponent: float) -> np.ndarray:
        return np.clip(1 - 1 / np.sqrt(1 + 10.0**exponent * sizes / coefficients), low, high)

    least, most = -15.0, 15.0
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        least, most = (middle, most) if shares(middle) @ sizes < zeros else (least, middle)
    return shares(most)
