# SPDX-License-Identifier: Apache-2.0
"""Figures as text, with their units."""

from learn2compress.schemas.reports import Latency, Report, SplitFigures
from learn2compress.schemas.units import format_count

STAGES = {
    "features": "learning the teacher's features",
    "distilled": "distillation",
    "thinned": "fine-tuning without the removed channels",
    "pruned": "pruning",
    "quantized": "quantization",
}


def format_against_teacher(accuracy: float, teacher: float | None) -> str:
    if teacher is None:
        return ""
    points = 100 * (accuracy - teacher)
    if abs(points) < 0.05:
        return "as accurate as the teacher"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'} the teacher’s {format_percent(teacher)}"


def format_accuracy(figures: SplitFigures | None) -> str:
    if figures is None:
        return "–"
    half = 50 * (figures.top1_interval.high - figures.top1_interval.low)
    return f"{format_percent(figures.top1)} ± {half:.1f}"


def format_interval(figures: SplitFigures) -> str:
    return f"{100 * figures.top1_interval.low:.1f} to {100 * figures.top1_interval.high:.1f} %"


def format_percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def format_share(share: float | None) -> str:
    return "–" if share is None else format_percent(share)


def format_optional_count(count: int | None) -> str:
    return "–" if count is None else format_count(count)


def format_ms(milliseconds: float) -> str:
    if milliseconds < 0.1:
        return f"{1000 * milliseconds:.3g}\N{NO-BREAK SPACE}µs"
    return f"{milliseconds:.3g}\N{NO-BREAK SPACE}ms"


def format_latency(latency: Latency | None) -> str:
    return "–" if latency is None else format_ms(latency.p50_ms)


def format_times(factor: float) -> str:
    return f"{factor:.3g}×" if factor < 1000 else f"{factor:,.0f}×"


def format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_host(report: Report) -> str:
    return f"on {report.evaluation.host.name}"
