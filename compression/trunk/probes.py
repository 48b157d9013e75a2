# SPDX-License-Identifier: Apache-2.0
"""Fits linear probes: how well a linear layer on pooled features reproduces the teacher's logits.

Ridge regression of the centered logits Y on the standardized features Z, for n images:

    W = (Zᵀ Z + n λ I)⁻¹ Zᵀ Y        prediction without image i: (ŷ_i - h_i y_i) / (1 - h_i)

where h is the diagonal of the hat matrix.

The second formula (Allen's PRESS, 1974) gives leave-one-out predictions, and thus an accuracy on images that the layer
has not seen, from a single decomposition.
"""

from dataclasses import dataclass

import numpy as np

_PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_FLOOR = -12.0  # logits are relative to the largest one; what is below adds nothing to what a student can learn


@dataclass(frozen=True)
class Probe:
    """A linear layer on pooled features.

    Attributes:
        kernel: [features, classes] float32.
        bias: [classes] float32.
        accuracy: Leave-one-out top-1 accuracy.
        errors: Leave-one-out squared error of the logits of each image relative to their variance, [images], with the
            penalty of the least mean. Of few images it tells more than the accuracy.
        importance: Contribution of each feature to the logits, [features] float32.
    """

    kernel: np.ndarray
    bias: np.ndarray
    accuracy: float
    errors: np.ndarray
    importance: np.ndarray


def fit_probe(features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> Probe:
    """Fit a linear layer that predicts the teacher's logits, with the penalty of the best leave-one-out accuracy.

    Args:
        features: [images, features] float32.
        logits: The teacher's logits, [images, classes].
        labels: [images] int64.
    """
    values = features.astype(np.float64)
    mean, deviation = values.mean(0), values.std(0)
    deviation = np.where(deviation > 1e-6 * max(1e-12, deviation.max()), deviation, np.inf)
    standardized = (values - mean) / deviation
    targets = centered(logits)
    middle = targets.mean(0)
    left, singular, right = np.linalg.svd(standardized, full_matrices=False)
    projected = left.T @ (targets - middle)
    count = len(values)
    best: tuple[tuple[float, float], np.ndarray] | None = None
    least: np.ndarray | None = None
    for penalty in _PENALTIES:
        shrunk = singular**2 / (singular**2 + count * penalty)
        predicted = left @ (shrunk[:, None] * projected) + middle
        leverage = np.minimum((left**2 @ shrunk) + 1 / count, 0.999)[:, None]
        without = (predicted - leverage * targets) / (1 - leverage)
        accuracy = float((without.argmax(1) == labels).mean())
        errors = np.mean((without - targets) ** 2, axis=1)
        error = float(errors.mean())
        least = errors if least is None or error < least.mean() else least
        inverse = np.divide(shrunk, singular, out=np.zeros_like(singular), where=singular > 0)
        if best is None or (accuracy, -error) > best[0]:
            best = (accuracy, -error), right.T @ (inverse[:, None] * projected)
    assert best is not None
    assert least is not None
    (accuracy, _), weights = best
    kernel = weights / deviation[:, None]
    return Probe(
        kernel.astype(np.float32),
        (middle - mean @ kernel).astype(np.float32),
        accuracy,
        least / max(1e-12, float(np.var(targets))),
        np.linalg.norm(weights, axis=1).astype(np.float32),
    )


def centered(logits: np.ndarray) -> np.ndarray:
    """Limit logits from below, relative to the largest one, and subtract their mean over the classes."""
    values = np.asarray(logits, np.float64)
    values = np.maximum(values - values.max(-1, keepdims=True), _FLOOR)
    return values - values.mean(-1, keepdims=True)
