# SPDX-License-Identifier: Apache-2.0
"""Draws random bits for the views of examples, as a function of the example's id, the view's number and a seed only.

Source: SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

import numpy as np


def draw_bits(ids: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws 64 random bits for each view.

    Args:
        ids: [batch] of 16 hexadecimal digits, as bytes or text.
        count: Number of views of an example.
        seed: Seed of the views.

    Returns:
        [batch, count] uint64.
    """
    digits = b"".join(i if isinstance(i, bytes) else str(i).encode() for i in np.asarray(ids).tolist())
    numbers = np.frombuffer(bytes.fromhex(digits.decode()), ">u8").astype(np.uint64)
    seeds = _mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64))
    steps = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return _mix(_mix(numbers ^ seeds)[:, np.newaxis] + steps)


def _mix(state: np.ndarray) -> np.ndarray:
    """Computes the output function of SplitMix64 on uint64 numbers; the products wrap around by design."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
