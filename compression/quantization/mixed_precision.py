# SPDX-License-Identifier: Apache-2.0
"""Keeping the worst few layers of an int8 file in float, where 8 bits cost more accuracy than they may.

Layers are taken from the ranking, worst first, until the file is accurate enough or as many are in float as may be.
With a layer whose output has a bad range go those that read it, since between two int8 operators that output is in 8
bits whoever computes it. The file's input and output stay integers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from learn2compress.schemas.manifests import LayerError
from learn2compress.tflite.parsed_file import ParsedFile
from learn2compress.tflite.transformations.splicing import Pair, splice


@dataclass(frozen=True)
class Rescued:
    """A file with some steps in float, and how accurate it is."""

    steps: tuple[int, ...]
    spliced: ParsedFile
    accuracy: float


def rescue_layers(
    pair: Pair,
    ranking: Sequence[tuple[int, LayerError]],
    accuracy_of: Callable[[ParsedFile], float],
    *,
    at_least: float,
    before: float,
    most: int,
) -> Rescued | None:
    """Looks for the fewest layers to keep in float.

    Args:
        pair: A student's two files.
        ranking: As `rank_steps` gives it.
        accuracy_of: Measures a file.
        at_least: The accuracy to reach.
        before: That of the file with all layers in 8 bits.
        most: Layers that may be in float.

    Returns:
        The first file that reaches it, or else the most accurate; None if none is more accurate than before.
    """
    best = None
    for steps in _attempts(pair, ranking, most):
        spliced = splice(pair, steps)
        tried = Rescued(tuple(sorted(steps)), spliced, accuracy_of(spliced))
        if tried.accuracy > (best.accuracy if best else before):
            best = tried
        if tried.accuracy >= at_least:
            break
    return best


def _attempts(pair: Pair, ranking: Sequence[tuple[int, LayerError]], most: int) -> list[set[int]]:
    """Growing sets of steps, at most so many large; a step that does not fit with its readers is passed over."""
    attempts: list[set[int]] = []
    steps: set[int] = set()
    for index, error in ranking:
        wanted = {index} | (pair.readers(index) if error.cause == "range" else set())
        if wanted <= steps or len(steps | wanted) > most:
            continue
        steps = steps | wanted
        attempts.append(steps)
    return attempts
