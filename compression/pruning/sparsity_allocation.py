# SPDX-License-Identifier: Apache-2.0
"""A global sparsity, spread over layers by how much each one minds.

A layer l of n weights, a share s of them zero, is taken to harm by a · s² / (1 - s): little at first, without bound in
the end. Its a is what was measured over what the formula says for a = 1. The sum of all harm is least under a given
number of zeros where one more zero harms alike everywhere, a · (2s - s²) / (1 - s)² = k · n with one k for all layers,
which is s = 1 - 1 / √(1 + k · n / a). The k that gives the right number of zeros is found by halving.

The measure is of one layer at a time and before any training, so it is not trusted further than to between twice and
half of the weights that an even spread would leave.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from learn2compress.schemas.manifests import Drop, LayerSensitivity

_LEAST_HARM = 1e-3  # nats: below that a measure on some hundred images is noise
_HALVINGS = 60
_MOST = 0.98  # zeros of a layer, where the even spread is near it


def spread_sparsity(layers: Sequence[LayerSensitivity], sparsity: float, students: Iterable[str]) -> dict[str, float]:
    """Finds the sparsity of each layer.

    Args:
        layers: Those that may be pruned, measured.
        sparsity: The share of zeros that each student shall have in its pruned kernels, all together.
        students: Smallest first: what it shares with a larger one is settled with the smaller.

    Returns:
        By layer. Each student has the sparsity asked for, as near as the bounds allow.
    """
    found: dict[str, float] = {}
    for student in students:
        own = [layer for layer in layers if layer.zeros and student in layer.students]
        free = [layer for layer in own if layer.layer not in found]
        zeros = sparsity * sum(layer.weights for layer in own)
        zeros -= sum(found[layer.layer] * layer.weights for layer in own if layer.layer in found)
        sizes = np.array([layer.weights for layer in free], float)
        harms = np.array([harm_factor(layer.zeros) for layer in free])
        shares = _equal_margins(sizes, harms, zeros, sparsity) if free else ()
        found |= {layer.layer: float(share) for layer, share in zip(free, shares, strict=True)}
    return found


def harm_factor(zeros: Sequence[Drop]) -> float:
    """The a of a layer: measured harm over that of the formula, summed over what was tried."""
    measured = sum(max(drop.divergence, _LEAST_HARM) for drop in zeros)
    return measured / sum(drop.share**2 / (1 - drop.share) for drop in zeros)


def scale_importance(importance: Mapping[str, np.ndarray], removed: Mapping[str, Sequence[Drop]]) -> dict:
    """Makes the importance of channels comparable between groups by what was measured of each group as a whole.

    Importance orders the channels of a group and gives the rise of the harm its shape; the measure gives its height: a
    group's importances are scaled so that their sums over what was tried are those of the measured divergences.

    Args:
        importance: By group, [channels].
        removed: By group, what was tried.

    Returns:
        By group, [channels].
    """
    scaled = {}
    for group, values in importance.items():
        lost = np.concatenate([[0.0], np.cumsum(np.sort(values))])
        expected = sum(lost[round(drop.share * len(values))] for drop in removed[group])
        measured = sum(max(drop.divergence, _LEAST_HARM) for drop in removed[group])
        scaled[group] = values * (measured / expected) if expected > 0 else values
    return scaled


def _equal_margins(sizes: np.ndarray, harms: np.ndarray, zeros: float, sparsity: float) -> np.ndarray:
    """Shares of zeros in [low, high] with `zeros` in all, where a further zero harms alike everywhere."""
    low, high = max(0.0, 1 - 2 * (1 - sparsity)), max(sparsity, min(_MOST, 1 - (1 - sparsity) / 2))
    if not low * sizes.sum() < zeros < high * sizes.sum():
        # Shared layers took so much or so little that the bounds cannot hold: evenly then.
        return np.full(len(sizes), np.clip(zeros / sizes.sum(), 0.0, max(sparsity, _MOST)))

    def shares(exponent: float) -> np.ndarray:
        return np.clip(1 - 1 / np.sqrt(1 + 10.0**exponent * sizes / harms), low, high)

    least, most = -15.0, 15.0
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        least, most = (middle, most) if shares(middle) @ sizes < zeros else (least, middle)
    return shares(most)
