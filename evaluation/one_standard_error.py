# SPDX-License-Identifier: Apache-2.0
"""Decides which candidates are as good as the most accurate one, by the one-standard-error rule.

On n images let d_i be the correctness of the most accurate candidate on image i, minus that of another one. The other
one is as good if the mean of d is at most its standard error, sd(d) / sqrt(n), and at most `MAX_DROP`, and if McNemar's
test finds no significant difference. Among those that are as good, the smallest is preferred: a larger file has to be
better by more than the noise of the images on which the choice is made.

Source: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984, section 3.4.3. The rule is used
here with the paired difference, whose standard error is smaller than that of either accuracy.
"""

import math
from typing import NamedTuple

import numpy as np

from learn2compress.evaluation.metrics import mcnemar_of

MAX_DROP = 0.02  # largest accepted drop in accuracy, as a fraction, however few the images are
SIGNIFICANCE_LEVEL = 0.05  # accuracies differ significantly if McNemar's p is at most this


class PairedDifference(NamedTuple):
    """The difference in accuracy of two candidates on the same images."""

    mean: float  # positive if the first is more accurate
    standard_error: float
    images: int
    p: float  # of McNemar's test

    @property
    def is_negligible(self) -> bool:
        """Whether the second candidate is as good as the first by the one-standard-error rule."""
        # The tolerance absorbs the rounding error of the mean.
        most = min(self.standard_error, MAX_DROP) + 1e-9
        return self.images > 1 and self.mean <= most and self.p > SIGNIFICANCE_LEVEL


def paired_difference(first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """Compares two candidates on the same images.

    Args:
        first: Correctness of the first candidate, [images] bool.
        second: Correctness of the second candidate, [images] bool.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    images = len(difference)
    error = float(np.std(difference, ddof=1)) / math.sqrt(images) if images > 1 else math.inf
    mean = float(np.mean(difference)) if images else math.nan
    return PairedDifference(mean, error, images, mcnemar_of(first, second))
