# SPDX-License-Identifier: Apache-2.0
"""Chooses one of several files by limits and an objective, and gives a reason in words for every candidate.

The choice uses the validation split only. `validation_view` extracts its figures from an evaluation, and later steps
use nothing else, so that the figures of the test split remain unbiased.

Plain conversions of the teacher (baselines) are reference points and never chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from learn2compress.evaluation.metrics import mcnemar_of
from learn2compress.evaluation.one_standard_error import SIGNIFICANCE_LEVEL, PairedDifference, paired_difference
from learn2compress.evaluation.pareto import Point, dominator, knee, pareto_front
from learn2compress.schemas.errors import ConfigError, SelectionError
from learn2compress.schemas.reports import Choice, Evaluation, Latency, Limits, Verdict
from learn2compress.schemas.units import format_bytes, format_count, format_points

NEAREST = 3  # number of candidates that are named if none satisfies the limits


class Measured(NamedTuple):
    """The costs of a candidate and its accuracy on the validation split."""

    name: str
    sha256: str
    accuracy: float
    bytes: int
    macs: int | None
    latency_ms: float | None


class Miss(NamedTuple):
    """A limit that a candidate does not satisfy."""

    limit: str
    reason: str  # "4.2 KB over max_size (60 KB)"
    share: float  # distance from the limit, as a fraction of the limit


class View(NamedTuple):
    """The figures of an evaluation on the validation split."""

    measured: list[Measured]  # measured candidates, in the order that resolves ties
    failed: dict[str, str]  # reason by name
    baselines: dict[str, str]  # description by name
    teacher_accuracy: float | None
    latency_source: str  # "on Pixel 8, 1 thread"
    examples: str  # "images"


def validation_view(evaluation: Evaluation) -> View:
    """Extract the validation figures from an evaluation.

    The latency is that with the fewest threads. Ties are resolved by the order of `measured`: fewer bytes, lower
    latency, fewer MACs, name; values that were not measured come last.
    """
    measured, failed, baselines = [], {}, {}
    threads = min((entry.threads for c in evaluation.candidates for entry in c.latency), default=None)
    for candidate in evaluation.candidates:
        figures = candidate.figures.get("validation")
        if candidate.baseline:
            description = "a plain conversion of the teacher, for reference"
            baselines[candidate.name] = (
                description if candidate.failed is None else f"{description}; {candidate.failed}"
            )
        elif candidate.failed is not None or figures is None:
            failed[candidate.name] = candidate.failed or "not measured on the validation split"
        else:
            measured.append(
                Measured(
                    name=candidate.name,
                    sha256=candidate.sha256,
                    accuracy=figures.top1,
                    bytes=candidate.bytes,
                    macs=candidate.macs,
                    latency_ms=_latency(candidate.latency, threads),
                )
            )
    measured.sort(key=_tie_order)
    teacher = evaluation.teacher.accuracy.get("validation") if evaluation.teacher else None
    source = "" if threads is None else f"on {evaluation.host.name}, {threads} thread{'s' * (threads > 1)}"
    return View(measured, failed, baselines, teacher, source, f"{evaluation.task.modality}s")


def choose(
    evaluation: Evaluation,
    limits: Limits,
    objective: str = "accuracy",
    correctness: Mapping[str, np.ndarray] | None = None,
) -> Choice:
    """Choose a file by its validation figures.

    Args:
        evaluation: The measurements.
        limits: Limits that the chosen file must satisfy.
        objective: accuracy (the smallest one that is as good as the most accurate by the one-standard-error rule),
            accuracy_strict (the most accurate), size, latency, or knee (that of the front of accuracy against bytes).
        correctness: Correctness by candidate, [validation images] bool, of the same images in the same order. Without
            it, differences in accuracy are not tested, and accuracy means accuracy_strict.

    Returns:
        The chosen file, the Pareto front, and a verdict with a reason for each candidate.

    Raises:
        ConfigError: A limit or the objective needs a figure that was not measured.
        SelectionError: No candidate satisfies the limits; the message names the nearest ones and the limits they miss.
    """
    return _choose(validation_view(evaluation), limits, objective, correctness or {})


def _choose(view: View, limits: Limits, objective: str, correctness: Mapping[str, np.ndarray]) -> Choice:
    _require_figures(view, limits, objective)
    misses = {m.name: misses_of(m, limits, view.teacher_accuracy) for m in view.measured}
    able = [m for m in view.measured if not misses[m.name]]
    if not able:
        raise SelectionError(_nothing_fits(view, limits, misses))
    cost = _COSTS["latency" if objective == "latency" else "size"]
    points = [Point(m.accuracy, cost.of(m)) for m in able]
    front = pareto_front(points)
    best = able[_best(points, front, objective)]
    winner = _smallest_as_good([able[i] for i in front], best, correctness) if objective == "accuracy" else best
    verdicts = []
    for m in view.measured:
        if misses[m.name]:
            verdicts.append(_verdict(m.name, "over limit", "; ".join(miss.reason for miss in misses[m.name])))
    for index, m in enumerate(able):
        above = dominator(points, index, front)
        if m is winner:
            verdicts.append(
                _verdict(m.name, "chosen", _why_chosen(m, best, able, objective, limits, correctness, view.examples))
            )
        elif above is None:
            reason = f"on the front: {_compare(m, winner, cost)} than {winner.name}"
            verdicts.append(_verdict(m.name, "front", reason + _significance_note(m, winner, correctness)))
        else:
            reason = f"dominated by {able[above].name}: {_compare(able[above], m, cost)}"
            verdicts.append(_verdict(m.name, "dominated", reason + _significance_note(m, able[above], correctness)))
    verdicts += [_verdict(name, "failed", why) for name, why in sorted(view.failed.items())]
    verdicts += [_verdict(name, "baseline", text) for name, text in view.baselines.items()]
    order = ("chosen", "front", "dominated", "over limit", "failed", "baseline")
    return Choice(
        limits=limits,
        objective=objective,
        chosen=winner.name,
        sha256=winner.sha256,
        front=[able[i].name for i in front],
        verdicts=sorted(verdicts, key=lambda verdict: order.index(verdict.status)),
    )


def misses_of(measured: Measured, limits: Limits, teacher_accuracy: float | None) -> list[Miss]:
    """List the limits that a candidate does not satisfy; a figure that was not measured does not satisfy its limit."""
    misses = []
    ceilings: tuple[tuple[str, float | None, float | None, Callable[[float], str]], ...] = (
        ("max_size", measured.bytes, limits.max_size, format_bytes),
        ("max_latency_ms", measured.latency_ms, limits.max_latency_ms, _format_ms),
        ("max_macs", measured.macs, limits.max_macs, format_count),
    )
    for limit, value, ceiling, write in ceilings:
        if ceiling is None:
            continue
        if value is None:
            misses.append(Miss(limit, f"not measured, so {limit} ({write(ceiling)}) cannot be checked", float("inf")))
        elif value > ceiling:
            reason = f"{write(value - ceiling)} over {limit} ({write(ceiling)})"
            misses.append(Miss(limit, reason, value / ceiling - 1))
    if limits.min_accuracy is not None and measured.accuracy < limits.min_accuracy:
        short = limits.min_accuracy - measured.accuracy
        reason = f"{format_points(short)} under min_accuracy ({_format_share(limits.min_accuracy)})"
        misses.append(Miss("min_accuracy", reason, short / limits.min_accuracy))
    if limits.max_accuracy_drop is not None and teacher_accuracy is not None:
        drop = teacher_accuracy - measured.accuracy
        # The tolerance absorbs the rounding error of the difference of two fractions.
        if drop > limits.max_accuracy_drop + 1e-9:
            reason = (
                f"{format_points(drop)} below the teacher, "
                f"{format_points(drop - limits.max_accuracy_drop)} over max_accuracy_drop "
                f"({format_points(limits.max_accuracy_drop)})"
            )
            misses.append(Miss("max_accuracy_drop", reason, (drop - limits.max_accuracy_drop) / teacher_accuracy))
    return misses


class _Cost(NamedTuple):
    field: str
    more: str
    less: str

    def of(self, measured: Measured) -> float:
        return getattr(measured, self.field)


_COSTS = {"size": _Cost("bytes", "more", "less"), "latency": _Cost("latency_ms", "slower", "faster")}


def _best(points: Sequence[Point], front: Sequence[int], objective: str) -> int:
    """Return the index of the best point: accuracy and cost both rise along the front, so the extremes are its ends."""
    if objective in ("accuracy", "accuracy_strict"):
        return front[-1]
    if objective == "knee":
        return front[knee([points[i] for i in front])]
    return front[0]


def _smallest_as_good(front: Sequence[Measured], best: Measured, correctness: Mapping[str, np.ndarray]) -> Measured:
    """Return the first point of the front, smallest first, that is as good as the most accurate one."""
    for measured in front:
        difference = _difference(best, measured, correctness)
        if difference is not None and difference.is_negligible:
            return measured
    return best


def _difference(first: Measured, second: Measured, correctness: Mapping[str, np.ndarray]) -> PairedDifference | None:
    if first.name not in correctness or second.name not in correctness:
        return None
    return paired_difference(correctness[first.name], correctness[second.name])


def _require_figures(view: View, limits: Limits, objective: str) -> None:
    if not view.measured:
        reasons = "; ".join(f"{name}: {why}" for name, why in sorted(view.failed.items()))
        raise SelectionError(f"At least one candidate must have been measured; none was. {reasons}".rstrip() + ".")
    if limits.max_accuracy_drop is not None and view.teacher_accuracy is None:
        raise ConfigError(
            "max_accuracy_drop must have a teacher to compare with; the evaluation has none. Give min_accuracy instead."
        )
    if limits.max_macs is not None and all(m.macs is None for m in view.measured):
        raise ConfigError("max_macs must be used with candidates whose MACs are known; none are. Remove the limit.")
    timed = [m for m in view.measured if m.latency_ms is not None]
    if not timed and (limits.max_latency_ms is not None or objective == "latency"):
        what = "objective latency" if limits.max_latency_ms is None else "max_latency_ms"
        raise ConfigError(
            f"{what} must be used with candidates whose latency was measured; none was. Remove it or measure latency."
        )
    if objective == "latency" and len(timed) < len(view.measured):
        missing = ", ".join(m.name for m in view.measured if m.latency_ms is None)
        raise ConfigError(
            f"objective latency must have the latency of every candidate; that of {missing} is missing. "
            "Measure it as well, or choose another objective."
        )


def _nothing_fits(view: View, limits: Limits, misses: Mapping[str, list[Miss]]) -> str:
    nearest = sorted(view.measured, key=lambda m: (len(misses[m.name]), sum(miss.share for miss in misses[m.name])))
    lines = [f"{m.name} is " + " and ".join(miss.reason for miss in misses[m.name]) for m in nearest[:NEAREST]]
    parts = [f"A candidate must satisfy {_format_limits(limits)}; none of {len(view.measured)} does."]
    parts += _exclusions(view, misses)
    teacher = view.teacher_accuracy
    if limits.min_accuracy is not None and teacher and teacher < limits.min_accuracy:
        parts.append(f"min_accuracy is above the teacher's accuracy of {_format_share(teacher)}.")
    return " ".join([*parts, f"Nearest: {'; '.join(lines)}."])


def _exclusions(view: View, misses: Mapping[str, list[Miss]]) -> list[str]:
    """Describe pairs of limits that some candidates satisfy one by one, but none satisfies together."""
    kept: dict[str, set[str]] = {}
    for limit in {miss.limit for found in misses.values() for miss in found}:
        kept[limit] = {m.name for m in view.measured if limit not in {miss.limit for miss in misses[m.name]}}
    names = sorted(kept)
    return [
        f"{first} and {second} exclude each other here: {len(kept[first])} candidates satisfy the first, "
        f"{len(kept[second])} the second, and none both."
        for i, first in enumerate(names)
        for second in names[i + 1 :]
        if kept[first] and kept[second] and not kept[first] & kept[second]
    ]


def _why_chosen(
    chosen: Measured,
    best: Measured,
    able: Sequence[Measured],
    objective: str,
    limits: Limits,
    correctness: Mapping[str, np.ndarray],
    examples: str,
) -> str:
    title = {
        "accuracy": "the most accurate",
        "accuracy_strict": "the most accurate",
        "size": "the smallest",
        "latency": "the fastest",
        "knee": "the knee of accuracy against size",
    }[objective]
    given = _format_limits(limits)
    within = f"of {len(able)} that satisfy {given}" if given != "no limit" else f"of all {len(able)}"
    if len(able) == 1:
        title, within = "the only one", f"that satisfies {given}" if given != "no limit" else "measured"
    figures = f"{_format_share(chosen.accuracy)} at {format_bytes(chosen.bytes)}"
    difference = _difference(best, chosen, correctness)
    if chosen is not best and difference is not None:
        within += (
            f" within one standard error of {best.name}, the most accurate ({_format_share(best.accuracy)} at "
            f"{format_bytes(best.bytes)}; {100 * difference.mean:.1f} ± {100 * difference.standard_error:.1f} points "
            f"on {difference.images} validation {examples})"
        )
        return f"the smallest {within}: {figures}"
    alike = [m.name for m in able if m is not chosen and _is_not_significant(m, chosen, correctness)]
    test = f"McNemar p > {SIGNIFICANCE_LEVEL:g}"
    tail = f"; not significantly different from {', '.join(alike)} ({test})" if alike else ""
    return f"{title} {within}: {figures}{tail}"


def _compare(first: Measured, second: Measured, cost: _Cost) -> str:
    """Compare the first candidate with the second: "0.4 points better at 12 KB less"."""
    gain, extra = first.accuracy - second.accuracy, cost.of(first) - cost.of(second)
    accuracy = f"{format_points(abs(gain))} {'better' if gain > 0 else 'worse'}" if gain else "equally accurate"
    if cost.field == "latency_ms":
        how = f"{_format_ms(abs(extra))} {cost.more if extra > 0 else cost.less}" if extra else "equally fast"
        return f"{accuracy} and {how}"
    how = f"{format_bytes(abs(extra))} {cost.more if extra > 0 else cost.less}" if extra else "the same size"
    return f"{accuracy} at {how}"


def _significance_note(first: Measured, second: Measured, correctness: Mapping[str, np.ndarray]) -> str:
    if not _is_not_significant(first, second, correctness):
        return ""
    p = mcnemar_of(correctness[first.name], correctness[second.name])
    difference = format_points(abs(first.accuracy - second.accuracy))
    return f"; not significantly different from {second.name} ({difference}, McNemar p = {p:.2f})"


def _is_not_significant(first: Measured, second: Measured, correctness: Mapping[str, np.ndarray]) -> bool:
    if first.accuracy == second.accuracy or first.name not in correctness or second.name not in correctness:
        return False
    return mcnemar_of(correctness[first.name], correctness[second.name]) > SIGNIFICANCE_LEVEL


def _latency(entries: Sequence[Latency], threads: int | None) -> float | None:
    return next((entry.p50_ms for entry in entries if entry.threads == threads), None)


def _tie_order(measured: Measured) -> tuple[float, float, float, str]:
    unknown = float("inf")
    latency = unknown if measured.latency_ms is None else measured.latency_ms
    return measured.bytes, latency, unknown if measured.macs is None else measured.macs, measured.name


def _verdict(name: str, status: str, reason: str) -> Verdict:
    return Verdict(candidate=name, status=status, reason=reason)


def _format_limits(limits: Limits) -> str:
    written = {
        "max_size": format_bytes,
        "max_latency_ms": _format_ms,
        "max_macs": format_count,
        "min_accuracy": _format_share,
        "max_accuracy_drop": format_points,
    }
    given = limits.model_dump(exclude_none=True)
    return " and ".join(f"{name} {written[name](value)}" for name, value in given.items()) or "no limit"


def _format_share(share: float) -> str:
    return f"{100 * share:.1f} %"


def _format_ms(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms"
