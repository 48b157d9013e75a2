# SPDX-License-Identifier: Apache-2.0
"""Computes the costs of the students after the passes."""

from collections.abc import Mapping, Sequence

from learn2compress.compression.dictionary.rows import dictionary_costs
from learn2compress.compression.family.spec import Cost, family_costs
from learn2compress.compression.pruning.passes.base import Work
from learn2compress.compression.quantization.preflight import file_costs
from learn2compress.schemas.manifests import Task


def costs_after(
    work: Work, before: Mapping[str, Cost], task: Task, shapes: Sequence[tuple[int, ...]]
) -> Mapping[str, Cost]:
    """Return the costs of each student.

    Args:
        work: Students after the last pass.
        before: Costs before the first one.
        task: The classification task.
        shapes: Shapes of the family's weights before the first pass; the costs remain if none has changed.
    """
    if work.spec:
        return family_costs(work.spec)
    if work.dictionary is not None:
        return dictionary_costs(work.family, work.names, work.dictionary, task.classes)
    if list(shapes) == [tuple(weight.shape) for weight in work.family.weights]:
        return before
    return file_costs(work.family, work.names)
