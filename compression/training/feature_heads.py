# SPDX-License-Identifier: Apache-2.0
"""Begins the logits layers of students that have learned the teacher's features.

A student predicts the standardized features (f - mean) / deviation as W p + b from its pooled features p. The teacher
computes its logits from f by its last layer, K f + c. Composed, they are logits of the student:

    K (deviation · (W p + b) + mean) + c

Features that do not vary are left out of the prediction; their mean contributes to the bias.
"""

from collections.abc import Mapping

import numpy as np

Layer = tuple[np.ndarray, np.ndarray]


def composed_heads(
    projections: Mapping[str, Layer], teacher: Layer, kept: np.ndarray, mean: np.ndarray, deviation: np.ndarray
) -> dict[str, Layer]:
    """Compose each student's linear map with the teacher's last layer.

    Args:
        projections: By student, kernel [pooled features, kept features] and bias [kept features] of the map that it
            learned.
        teacher: Kernel [features, classes] and bias [classes] of the teacher's last layer.
        kept: Indices of the features that vary.
        mean: Means of all features, [features].
        deviation: Standard deviations of the kept features.

    Returns:
        Kernel [pooled features, classes] and bias [classes] of the logits layer, by student.
    """
    kernel, bias = teacher
    scaled = deviation[:, None] * kernel[kept]
    constant = mean @ kernel + bias
    return {name: (weights @ scaled, offset @ scaled + constant) for name, (weights, offset) in projections.items()}
