# SPDX-License-Identifier: Apache-2.0
"""Tells logits from probabilities, with tolerances that suit the type that the numbers were computed in."""

from typing import Literal

import numpy as np

_SUM_TOLERANCE = 1e-3
_ROUNDINGS = 4  # of one unit in the last place each, that a sum of probabilities may be off by

OutputKind = Literal["probabilities", "sigmoid", "logits"]
Source = Literal["softmax", "sigmoid", "sum", "unknown"]


def tell_output(values: np.ndarray, source: Source) -> OutputKind:
    """Tells what a classifier's outputs are by the operation that they come from and by the numbers themselves.

    Args:
        values: [images, outputs] float32, computed for images that stir up different outputs.
        source: The operation: a softmax, a sigmoid, a sum or product that may give any number, or another one.

    Returns:
        `sigmoid` for numbers in 0..1 that do not sum to 1: each is a probability by itself.
    """
    tolerance = max(_SUM_TOLERANCE, _ROUNDINGS * resolution(values))
    within = bool((values >= -1e-6).all() and (values <= 1 + tolerance).all())
    if values.shape[1] == 1:
        return "sigmoid" if source == "sigmoid" or (within and source == "unknown") else "logits"
    if source != "sigmoid" and within and np.abs(values.sum(axis=1) - 1).max() < tolerance:
        return "probabilities"
    # A sum that ends in a bias, or in no more than a matrix, may lie in 0..1 by chance.
    return "sigmoid" if source == "sigmoid" or (within and source != "sum") else "logits"


def resolution(values: np.ndarray) -> float:
    """Returns the relative step of the coarsest type that holds all of the numbers: bfloat16, float16 or float32."""
    values = np.ascontiguousarray(values, np.float32)
    if not (values.view(np.uint32) & 0xFFFF).any():
        return 2.0**-8
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16).astype(np.float32)
    return 2.0**-11 if np.array_equal(halves, values) else 2.0**-24
