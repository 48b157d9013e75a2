# SPDX-License-Identifier: Apache-2.0
"""Renders the model card in the bundle: the chosen file's intended use, its figures with intervals, and its limits.

Source: Mitchell et al., Model Cards for Model Reporting, 1810.03993
"""

from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from learn2compress import __version__
from learn2compress.modalities import modality_of
from learn2compress.schemas.config import BUILT_IN_PASSES
from learn2compress.schemas.reports import Candidate, Report
from learn2compress.schemas.units import format_bytes, format_count

SHOWN_CLASSES = 60
FEW_IMAGES = 30  # number of images of a class below which its figures are unreliable
WEAK_RECALL = 0.8


def render_model_card(report: Report) -> str:
    """Render the card of a report's chosen file in Markdown; equal reports give equal cards."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.keep_trailing_newline = True
    environment.filters |= {
        "bytes": format_bytes,
        "count": format_count,
        "percent": lambda share: f"{100 * share:.1f} %",
        "cell": _cell,
        "latency": lambda ms: f"{1000 * ms:.3g} µs" if ms < 0.1 else f"{ms:.3g} ms",
    }
    template = (resources.files("learn2compress.report") / "templates" / "model_card.md.j2").read_text("utf-8")
    chosen = next(c for c in report.evaluation.candidates if c.name == report.choice.chosen)
    reason = next(v.reason for v in report.choice.verdicts if v.candidate == chosen.name)
    return environment.from_string(template).render(
        report=report,
        chosen=chosen,
        figures=chosen.figures.get("test"),
        teacher=report.evaluation.teacher,
        host=report.evaluation.host,
        reason=reason,
        version=__version__,
        settings=_settings(report, chosen),
        example=modality_of(report.evaluation.task).presentation(report.evaluation.task),
        **_classes(report, chosen),
    )


def _classes(report: Report, chosen: Candidate) -> dict[str, Any]:
    """List the figures of each class, or of the classes with the lowest recall if there are many."""
    names = report.evaluation.task.classes
    figures = chosen.figures.get("test")
    if figures is None:
        return {"rows": [], "hidden": 0, "weak": [], "few": []}
    rows = list(zip(names, figures.per_class, strict=True))
    hidden = max(0, len(rows) - SHOWN_CLASSES)
    if hidden:
        rows = sorted(rows, key=lambda row: row[1].recall)[:SHOWN_CLASSES]
    measured = [(name, of) for name, of in zip(names, figures.per_class, strict=True) if of.images]
    weak = sorted((pair for pair in measured if pair[1].recall < WEAK_RECALL), key=lambda pair: pair[1].recall)
    few = [name for name, of in zip(names, figures.per_class, strict=True) if of.images < FEW_IMAGES]
    return {"rows": rows, "hidden": hidden, "weak": weak[:5], "few": few}


def _settings(report: Report, chosen: Candidate) -> list[str]:
    """Describe how the file was trained and quantized."""
    distill, prune = (report.config.get(section) or {} for section in ("distill", "prune"))
    lines = []
    if "epochs" in distill and "temperature" in distill:
        lines.append(f"Distilled for {distill['epochs']:g} epochs at temperature {distill['temperature']:g}.")
    passes = [one if isinstance(one, str) else one["name"] for one in prune.get("passes", BUILT_IN_PASSES)]
    own = [name for name in passes if name not in BUILT_IN_PASSES]
    if (prune.get("sparsity") and "magnitude" in passes) or prune.get("channels"):
        zeros = "" if chosen.sparsity is None else f"; {100 * chosen.sparsity:.0f} % of the kernels' values are zero"
        lines.append(f"Pruned and trained further{zeros}.")
    if own:
        lines.append(f"Changed by pruning passes of an installed package: {', '.join(map(_cell, own))}.")
    methods = sorted({layer.method for layer in chosen.layers})
    if methods:
        lines.append(f"Quantized to 8 bits: {', '.join(methods)}.")
    if chosen.calibration:
        lines.append(
            f"Ranges from {chosen.calibration.images:,} training images, digest `{chosen.calibration.digest}`."
        )
    return lines


def _cell(text: str) -> str:
    """Escape a name for a Markdown table."""
    for sign in "\\|`*_<>[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
