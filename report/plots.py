# SPDX-License-Identifier: Apache-2.0
"""Prepares the data of the plots: accuracy against each cost, and the training curves."""

from typing import Any

from learn2compress.report.wording import (
    STAGES,
    format_host,
    format_interval,
    format_latency,
    format_optional_count,
    format_percent,
)
from learn2compress.schemas.reports import Candidate, Report
from learn2compress.schemas.units import format_bytes


def build_plots(report: Report) -> dict[str, Any]:
    """Build the points and reference lines of the Pareto plots, from the validation split."""
    evaluation, choice = report.evaluation, report.choice
    status = {verdict.candidate: verdict.status for verdict in choice.verdicts}
    students = list(dict.fromkeys(c.student for c in evaluation.candidates if not c.baseline))
    points = []
    for c in evaluation.candidates:
        figures = c.figures.get("validation")
        if figures is None:
            continue
        points.append(
            {
                "name": c.name,
                "student": c.student,
                "variant": c.variant,
                "baseline": c.baseline,
                "status": status.get(c.name, ""),
                "front": c.name in choice.front,
                "accuracy": 100 * figures.top1,
                "low": 100 * figures.top1_interval.low,
                "high": 100 * figures.top1_interval.high,
                "bytes": c.bytes,
                "macs": c.macs or None,
                "latency": c.latency[0].p50_ms if c.latency else None,
                "text": _hover(c),
            }
        )
    teacher = evaluation.teacher
    return {
        "points": points,
        "students": students,
        "variants": list(dict.fromkeys(c.variant for c in evaluation.candidates if not c.baseline)),
        "teacher": None
        if teacher is None or "validation" not in teacher.accuracy
        else {
            "accuracy": 100 * teacher.accuracy["validation"],
            "bytes": teacher.bytes,
            "macs": teacher.macs,
            "text": f"<b>teacher</b><br>{format_percent(teacher.accuracy['validation'])} on validation<br>"
            f"{format_bytes(teacher.bytes)}, {format_optional_count(teacher.macs)} MACs",
        },
        "limits": choice.limits.model_dump(exclude_none=True),
        "axes": {
            "bytes": {"title": "Size", "log": True, "ticks": "bytes", "limit": choice.limits.max_size},
            "macs": {"title": "MACs", "log": True, "ticks": "count", "limit": choice.limits.max_macs},
            "latency": {
                "title": f"Latency, {format_host(report)}",
                "log": True,
                "ticks": "ms",
                "limit": choice.limits.max_latency_ms,
            },
        },
    }


def _hover(candidate: Candidate) -> str:
    lines = [f"<b>{candidate.name}</b>"]
    for split, figures in candidate.figures.items():
        lines.append(f"{format_percent(figures.top1)} on {split} ({format_interval(figures)})")
    lines.append(f"{format_bytes(candidate.bytes)}, {format_optional_count(candidate.macs)} MACs")
    if candidate.latency:
        lines.append(f"{format_latency(candidate.latency[0])}")
    return "<br>".join(lines)


def build_curves(report: Report) -> dict[str, Any]:
    """Build the training curves: accuracy and loss by epoch of each student, and of a jointly trained teacher."""
    students = list(dict.fromkeys(name for epoch in report.curves for name in epoch.accuracy))
    stages, start = [], 0
    for number, epoch in enumerate(report.curves):
        if number + 1 == len(report.curves) or report.curves[number + 1].stage != epoch.stage:
            stages.append({"name": STAGES[epoch.stage], "from": start + 0.5, "to": number + 1.5})
            start = number + 1
    curves = {
        "students": students,
        "stages": stages,
        "accuracy": {s: [_point(e.accuracy.get(s), 100) for e in report.curves] for s in students},
        "loss": {s: [_point(e.loss.get(s), 1) for e in report.curves] for s in students},
    }
    if any(epoch.teacher_accuracy is not None for epoch in report.curves):
        curves["teacher"] = {
            "accuracy": [_point(e.teacher_accuracy, 100) for e in report.curves],
            "loss": [_point(e.teacher_loss, 1) for e in report.curves],
        }
    return curves


def _point(value: float | None, scale: float) -> float | None:
    return None if value is None else round(scale * value, 4)
