# SPDX-License-Identifier: Apache-2.0
"""Describes the choice in words, and lists the measurements of each file as a table row."""

from typing import Any

from learn2compress.report.facts import format_limits
from learn2compress.report.layer_effects import describe_float_fallback
from learn2compress.report.wording import (
    format_accuracy,
    format_against_teacher,
    format_host,
    format_interval,
    format_latency,
    format_ms,
    format_optional_count,
    format_percent,
    format_share,
    format_times,
)
from learn2compress.schemas.manifests import Split
from learn2compress.schemas.reports import Report, Verdict
from learn2compress.schemas.units import format_bytes, format_count

STATUS = {
    "chosen": "Chosen",
    "front": "On the front",
    "dominated": "Dominated",
    "over limit": "Over a limit",
    "failed": "Failed",
    "baseline": "Reference",
}


def describe_verdict(report: Report) -> dict[str, Any]:
    """Describe the chosen file, with the reason and its figures."""
    choice, evaluation = report.choice, report.evaluation
    chosen = next((c for c in evaluation.candidates if c.name == choice.chosen), None)
    limits = format_limits(report)
    if chosen is None:
        return {"title": "No file satisfies the limits", "reason": "", "limits": limits, "figures": [], "split": ""}
    reason = next(v.reason for v in choice.verdicts if v.candidate == chosen.name)
    split: Split = "test" if "test" in chosen.figures else "validation"
    figures = chosen.figures[split]
    teacher = evaluation.teacher
    cards = [
        {
            "name": "Accuracy",
            "value": format_percent(figures.top1),
            "detail": f"95 % interval {format_interval(figures)}",
            "more": format_against_teacher(figures.top1, teacher.accuracy.get(split)) if teacher else "",
        },
        {
            "name": "Size",
            "value": format_bytes(chosen.bytes),
            "detail": f"{format_bytes(chosen.gzip_bytes)} as a compressed download",
            "more": f"{format_times(teacher.bytes / chosen.bytes)} smaller than the teacher" if teacher else "",
        },
    ]
    if chosen.macs is not None:
        fewer = teacher and teacher.macs and teacher.macs / chosen.macs
        cards.append(
            {
                "name": "Compute",
                "value": f"{format_count(chosen.macs)} MACs",
                "detail": "multiply-accumulates per image",
                "more": f"{format_times(fewer)} fewer than the teacher" if fewer else "",
            }
        )
    if chosen.latency:
        first = chosen.latency[0]
        threads = f"{first.threads} thread{'s' * (first.threads > 1)}"
        what = f"{report.evaluation.task.modality}s"
        cards.append(
            {
                "name": "Latency",
                "value": format_ms(first.p50_ms),
                "detail": f"{first.statistic}, {threads}, {format_host(report)}",
                "more": "" if first.p90_ms is None else f"90 % of {what} within {format_ms(first.p90_ms)}",
            }
        )
    return {
        "title": chosen.name,
        "reason": reason[0].upper() + reason[1:],
        "limits": limits,
        "figures": cards,
        "split": split,
        "images": evaluation.images.get(split, 0),
    }


def list_files(report: Report) -> list[dict[str, Any]]:
    """Build the table of candidates; each cell has the text that is shown and the number that it is sorted by."""
    verdicts = {verdict.candidate: verdict for verdict in report.choice.verdicts}
    order = list(verdicts)
    rows = []
    for candidate in sorted(report.evaluation.candidates, key=lambda c: order.index(c.name) if c.name in order else 99):
        verdict = verdicts.get(candidate.name)
        test, validation = candidate.figures.get("test"), candidate.figures.get("validation")
        latency = candidate.latency[0] if candidate.latency else None
        agreement = test.agreement if test else None
        rows.append(
            {
                "name": candidate.name,
                "status": verdict.status if verdict else "failed",
                "word": STATUS[verdict.status] if verdict else "",
                "reason": _after_status(verdict) if verdict else "",
                "float_fallback": describe_float_fallback(candidate),
                "sha256": candidate.sha256,
                "cells": [
                    ("Test accuracy", format_accuracy(test), test.top1 if test else -1),
                    ("Validation accuracy", format_accuracy(validation), validation.top1 if validation else -1),
                    ("Agrees with teacher", format_share(agreement), agreement or -1),
                    ("Calibration error", format_share(test.calibration_error if test else None),
                     test.calibration_error if test else 9),
                    ("Size", format_bytes(candidate.bytes), candidate.bytes),
                    ("Compressed", format_bytes(candidate.gzip_bytes), candidate.gzip_bytes),
                    ("Parameters", format_optional_count(candidate.parameters), candidate.parameters or 0),
                    ("MACs", format_optional_count(candidate.macs), candidate.macs or 0),
                    ("Memory", "–" if candidate.arena_bytes is None else format_bytes(candidate.arena_bytes),
                     candidate.arena_bytes or 0),
                    ("Latency", format_latency(latency), latency.p50_ms if latency else 1e9),
                ],
            }
        )  # fmt: skip
    return rows


def _after_status(verdict: Verdict) -> str:
    """Remove the beginning of a reason that repeats the status."""
    for start in ("on the front: ", "dominated "):
        if verdict.reason.startswith(start):
            return verdict.reason.removeprefix(start)
    return verdict.reason
