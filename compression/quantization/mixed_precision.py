# SPDX-License-Identifier: Apache-2.0
"""Float fallback: keeps the layers of an int8 file with the largest quantization error in float.

Layers are taken from the ranking, largest error first, until the file is accurate enough or the largest allowed number
of layers is in float. If the cause of an error is the range of a layer's output, the layers that read it are kept in
float as well, since an output between two int8 operators is always in 8 bits. The input and output of the file stay
integers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from learn2compress.schemas.manifests import LayerError
from learn2compress.tflite.parsed_file import ParsedFile
from learn2compress.tflite.transformations.splicing import Pair, splice


@dataclass(frozen=True)
class MixedPrecisionFile:
    """A file with some steps in float, and its accuracy."""

    steps: tuple[int, ...]
    spliced: ParsedFile
    accuracy: float


def choose_float_layers(
    pair: Pair,
    ranking: Sequence[tuple[int, LayerError]],
    accuracy_of: Callable[[ParsedFile], float],
    *,
    at_least: float,
    before: float,
    most: int,
) -> MixedPrecisionFile | None:
    """Finds the smallest number of layers to keep in float.

    Args:
        pair: Float and int8 file of a student.
        ranking: Ranking from `rank_steps`.
        accuracy_of: Function that measures the accuracy of a file.
        at_least: Accuracy to reach.
        before: Accuracy of the file with all layers in 8 bits.
        most: Largest number of layers in float.

    Returns:
        The first file that reaches the accuracy, or else the most accurate one; None if no file is more accurate than
        before.
    """
    best = None
    for steps in _attempts(pair, ranking, most):
        spliced = splice(pair, steps)
        tried = MixedPrecisionFile(tuple(sorted(steps)), spliced, accuracy_of(spliced))
        if tried.accuracy > (best.accuracy if best else before):
            best = tried
        if tried.accuracy >= at_least:
            break
    return best


def _attempts(pair: Pair, ranking: Sequence[tuple[int, LayerError]], most: int) -> list[set[int]]:
    """Lists growing sets of at most `most` steps; a step that does not fit together with its readers is skipped."""
    attempts: list[set[int]] = []
    steps: set[int] = set()
    for index, error in ranking:
        wanted = {index} | (pair.readers(index) if error.cause == "range" else set())
        if wanted <= steps or len(steps | wanted) > most:
            continue
        steps = steps | wanted
        attempts.append(steps)
    return attempts
