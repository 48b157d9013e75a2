# SPDX-License-Identifier: Apache-2.0
"""How learning rate and moving average go with the step. Pure functions of numbers."""

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
