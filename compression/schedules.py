# SPDX-License-Identifier: Apache-2.0
"""How learning rate, moving average and sparsity go with the step. Pure functions of numbers."""

import math


def cosine_with_warmup(step: int, total_steps: int, peak: float, warmup_steps: int = 0) -> float:
    """A linear rise to the peak, then half a cosine down to zero (1608.03983).

    Args:
        step: From 0.
        total_steps: At which the rate reaches zero.
        peak: The largest rate.
        warmup_steps: Steps of the rise; the first step already has peak / warmup_steps.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def moving_average_decay(step: int, decay: float) -> float:
    """The decay of a moving average that is not tied to its first values: min(decay, (1 + step) / (10 + step))."""
    return min(decay, (1 + step) / (10 + step))


def polynomial_sparsity(step: int, begin: int, end: int, final: float, power: int = 3) -> float:
    """Sparsity that rises fast at first (1710.01878, eq. 1): final · (1 - (1 - p)^power), p going from 0 to 1."""
    progress = min(1.0, max(0.0, (step - begin) / max(1, end - begin)))
    return final * (1 - (1 - progress) ** power)
