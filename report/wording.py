# SPDX-License-Identifier: Apache-2.0
"""Formats figures as text with their units."""

from learn2compress.schemas.reports import Latency, Report, SplitFigures
from learn2compress.schemas.units import format_count

STAGES = {
    "features": "learning the teacher's features",
    "distilled": "distillation",
    "thinned": "fine-tuning after channel pruning",
    "pruned": "pruning",
    "quantized": "quantization",
}


def format_against_teacher(accuracy: float, teacher: float | None) -> str:
    """Compare an accuracy with the teacher's: "1.3 points below the teacher's 93.4 %"."""
    if teacher is None:
        return ""
    points = 100 * (accuracy - teacher)
    if abs(points) < 0.05:
        return "as accurate as the teacher"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'} the teacher’s {format_percent(teacher)}"


def format_accuracy(figures: SplitFigures | None) -> str:
    """Format an accuracy with half the width of its interval: "91.2 % ± 0.6"."""
    if figures is None:
        return "–"
    half = 50 * (figures.top1_interval.high - figures.top1_interval.low)
    return f"{format_percent(figures.top1)} ± {half:.1f}"


def format_interval(figures: SplitFigures) -> str:
    """Format the interval of an accuracy: "90.6 to 91.8 %"."""
    return f"{100 * figures.top1_interval.low:.1f} to {100 * figures.top1_interval.high:.1f} %"


def format_percent(share: float) -> str:
    """Format a fraction in [0, 1] as a percentage."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def format_share(share: float | None) -> str:
    """Format a fraction as a percentage, or a dash if it is None."""
    return "–" if share is None else format_percent(share)


def format_optional_count(count: int | None) -> str:
    """Format a count with its unit prefix, or a dash if it is None."""
    return "–" if count is None else format_count(count)


def format_ms(milliseconds: float) -> str:
    """Format a time in ms, or in µs below 0.1 ms."""
    if milliseconds < 0.1:
        return f"{1000 * milliseconds:.3g}\N{NO-BREAK SPACE}µs"
    return f"{milliseconds:.3g}\N{NO-BREAK SPACE}ms"


def format_latency(latency: Latency | None) -> str:
    """Format a median latency, or a dash if it is None."""
    return "–" if latency is None else format_ms(latency.p50_ms)


def format_times(factor: float) -> str:
    """Format a factor: "12.3×"."""
    return f"{factor:.3g}×" if factor < 1000 else f"{factor:,.0f}×"


def format_duration(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_host(report: Report) -> str:
    """Return the host of the latency measurements as "on NAME"."""
    return f"on {report.evaluation.host.name}"
