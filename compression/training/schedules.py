# SPDX-License-Identifier: Apache-2.0
"""Schedules of the learning rate and of the moving average, as pure functions of the step."""

import math


def cosine_with_warmup(step: int, total_steps: int, peak: float, warmup_steps: int = 0) -> float:
    """Compute a learning rate that rises linearly to the peak, and then falls to zero as half a cosine.

    Args:
        step: Number of the step, from 0.
        total_steps: Number of the step at which the rate reaches zero.
        peak: Largest rate.
        warmup_steps: Number of steps of the linear rise; the rate of the first step is peak / warmup_steps.

    Source: Loshchilov and Hutter, arXiv:1608.03983.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def moving_average_decay(step: int, decay: float) -> float:
    """Compute the decay min(decay, (1 + step) / (10 + step)), which reduces the influence of the first values."""
    return min(decay, (1 + step) / (10 + step))
