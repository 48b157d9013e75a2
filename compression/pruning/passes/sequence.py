# SPDX-License-Identifier: Apache-2.0
"""Runs passes in order; the result of a user-defined pass is checked against the contract."""

import inspect
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from learn2compress.compression.pruning.passes.base import Context, Pass, Work
from learn2compress.compression.pruning.passes.registry import ChosenPass
from learn2compress.schemas.errors import Learn2CompressError, PassError


def run_passes(passes: Sequence[ChosenPass], work: Work, context: Context) -> Work:
    """Runs the passes in order.

    Args:
        passes: Passes with their parameters.
        work: Students of the Distiller.
        context: Data, recipe and devices of all passes.

    Returns:
        The students after the last pass, with a note if there are no passes, and one for each pass that is not built
        in.

    Raises:
        PassError: A pass that is not built in failed, or its result violates the contract.
    """
    if not passes:
        return work.with_note("no pruning: prune.passes is empty")
    for one in passes:
        if one.origin is None:
            work = one.step.run(work, context)
        else:
            note = _describe(one)
            work = _run_checked(one, work, context).with_note(note)
    return work


def _describe(one: ChosenPass) -> str:
    parameters = one.step.parameters.model_dump(mode="json")
    given = yaml.safe_dump(parameters, default_flow_style=True, sort_keys=False, width=10**6).strip()
    return f"pass {one.step.name} of {one.origin}" + (f" with {given}" if parameters else "")


def _run_checked(one: ChosenPass, work: Work, context: Context) -> Work:
    what = f"pass {one.step.name!r} of {one.origin}"
    shapes = [tuple(weight.shape) for weight in work.family.weights]
    try:
        after = one.step.run(work, context)
    except Learn2CompressError:
        raise
    except Exception as error:
        raise PassError(
            f"{what} must run to its end; {_place(one.step, error)}{type(error).__name__}: "
            f"{' '.join(str(error).split())}. Correct it, or leave it out of prune.passes."
        ) from error
    _check_contract(what, work, after, shapes)
    return after


def _check_contract(what: str, before: Work, after: Any, shapes: list[tuple[int, ...]]) -> None:
    """Refuses results that the nodes after the Pruner cannot process.

    Args:
        what: Name of the pass in messages.
        before: Input of the pass, whose family may have been changed in place.
        after: Result of the pass.
        shapes: Shapes of the family's weights before the pass.
    """
    if not isinstance(after, Work):
        raise PassError(f"{what} must return a Work; got {after!r}. Return work, or dataclasses.replace(work, …).")
    inputs, outputs = (
        tuple([tuple(tensor.shape) for tensor in getattr(work.family, end)] for work in (before, after))
        for end in ("inputs", "outputs")
    )
    ends = (("names", (before.names, after.names)), ("input", inputs), ("outputs", outputs))
    for end, (expected, got) in ends:
        if got != expected:
            raise PassError(f"{what} must keep the students' {end} {expected}; got {got}. Leave them as they are.")
    now = [tuple(weight.shape) for weight in after.family.weights]
    if now != shapes and after.spec == before.spec:
        pairs = zip(shapes, now, strict=False)
        counts = (f"{len(shapes)} weights", f"{len(now)} weights")
        old, new = next((pair for pair in pairs if pair[0] != pair[1]), counts)
        raise PassError(
            f"{what} must return the spec of the new shape where it changes the shape of a layer; got the same spec, "
            f"and {new} in place of {old}. Set spec in dataclasses.replace(work, …), or keep the shapes."
        )
    for weight in after.family.weights:
        if not np.all(np.isfinite(weight.numpy())):
            raise PassError(f"{what} must leave finite weights; those of {weight.name} are not. Check its arithmetic.")


def _place(step: Pass[Any], error: Exception) -> str:
    """Names the last line of the pass's own module in the traceback."""
    module = Path(inspect.getfile(type(step)))
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == module]
    return f"{module.name}, line {lines[-1]}: " if lines else ""
