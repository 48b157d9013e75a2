# SPDX-License-Identifier: Apache-2.0
"""Compares runs on one HTML page: their files, settings, teachers and data.

Accuracies can be compared only where the test images are the same, which the page checks by the digest of the data.
The chosen files are then compared image by image, with McNemar's test.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined

from learn2compress.evaluation.metrics import mcnemar_of
from learn2compress.evaluation.predictions import PREDICTIONS, read_predictions
from learn2compress.report.wording import (
    format_accuracy,
    format_latency,
    format_optional_count,
    format_share,
)
from learn2compress.schemas.reports import Candidate, Report
from learn2compress.schemas.units import format_bytes

SIGNIFICANT = 0.05
_LEFT_OUT = {("teacher", "path"), ("data", "path"), ("pipeline", "name"), ("pipeline", "metadata"), ("kubeflow", "")}


class Run(NamedTuple):
    """A run to compare.

    Attributes:
        name: Name of the output folder.
        report: Its report.
        correct: Whether the chosen file classifies each test image correctly, [images] bool by example id; None if
            the predictions are missing.
    """

    name: str
    report: Report
    correct: Mapping[int, bool] | None = None

    @property
    def chosen(self) -> Candidate | None:
        """The chosen file; None if no file satisfied the limits."""
        return next((c for c in self.report.evaluation.candidates if c.name == self.report.choice.chosen), None)


class Difference(NamedTuple):
    """A field of the configuration whose values differ."""

    field: str
    values: tuple[str, ...]  # in the order of the runs


def read_correct(evaluation_dir: str | Path, model: str | None) -> dict[int, bool] | None:
    """Read for which test images a model predicts the label.

    Args:
        evaluation_dir: Folder of the ModelEvaluation artifact.
        model: Name of the model.

    Returns:
        Whether it is correct, by the example's id; None if the predictions do not hold that.

    Raises:
        Learn2CompressError: The predictions are damaged.
    """
    path = Path(evaluation_dir, PREDICTIONS)
    split = read_predictions(path).get("test") if path.is_file() else None
    found = split.models.get(model) if split is not None and model is not None else None
    if split is None or found is None or len(found.classes) != len(split.ids):
        return None
    return dict(zip(map(int, split.ids), map(bool, found.classes == split.labels), strict=True))


def render_comparison(runs: Sequence[Run]) -> str:
    """Render the page.

    Args:
        runs: At least two runs; all are compared with the first.

    Returns:
        HTML.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    folder = resources.files(__package__) / "templates"
    template = environment.from_string((folder / "comparison.html.j2").read_text(encoding="utf-8"))
    return template.render(
        css=(folder / "report.css").read_text(encoding="utf-8"),
        runs=runs,
        overview=_overview(runs),
        verdicts=[compare_chosen(runs[0], run) for run in runs[1:]],
        warnings=list_doubts(runs),
        files=_files(runs),
        plot=_plot(runs),
        differences=list_differences(runs),
    )


def compare_chosen(first: Run, second: Run) -> str:
    """Compare the chosen files of two runs in a sentence."""
    a, b = first.chosen, second.chosen
    if a is None or b is None:
        return f"{(first if a is None else second).name} has no chosen file."
    figures = a.figures.get("test"), b.figures.get("test")
    size = f"{format_bytes(b.bytes)} against {format_bytes(a.bytes)}"
    if figures[0] is None or figures[1] is None:
        return f"{second.name}: {size}; not both were measured on the test images."
    points = 100 * (figures[1].top1 - figures[0].top1)
    start = f"{second.name} against {first.name}: {points:+.1f} points on the test images, {size}"
    shared = sorted(set(first.correct or ()) & set(second.correct or ()))
    if not shared or first.correct is None or second.correct is None:
        return f"{start}. They have no test images in common, so that the difference may be one of the images."
    one, other = (np.array([run[image] for image in shared]) for run in (first.correct, second.correct))
    p = mcnemar_of(one, other)
    verdict = "significant" if p < SIGNIFICANT else "not significant"
    return (
        f"{start}. On the {len(shared):,} images in common the difference is {verdict} (McNemar's test, p = {p:.2g})."
    )


def list_doubts(runs: Sequence[Run]) -> list[str]:
    """List the reasons why figures of the runs cannot simply be compared."""
    doubts = []
    if len({run.report.data["digest"] for run in runs}) > 1:
        doubts.append("The data differ, so that accuracies were measured on different images.")
    if len({run.report.teacher.sha256 for run in runs}) > 1:
        doubts.append("The teachers differ, so that drops from the teacher have different references.")
    hosts = {(run.report.evaluation.host.name, run.report.evaluation.host.processor) for run in runs}
    if len(hosts) > 1:
        doubts.append("Latencies were measured on different machines.")
    return doubts


def list_differences(runs: Sequence[Run]) -> list[Difference]:
    """List the fields of the configurations whose values differ, without paths and names."""
    flat = [_flatten(run.report.config) for run in runs]
    found = []
    for field in dict.fromkeys(field for values in flat for field in values):
        values = tuple(str(one.get(field, "–")) for one in flat)
        if len(set(values)) > 1:
            found.append(Difference(field, values))
    return found


def _flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, fields in config.items():
        if (section, "") in _LEFT_OUT or not isinstance(fields, Mapping):
            continue
        flat.update({f"{section}.{key}": value for key, value in fields.items() if (section, key) not in _LEFT_OUT})
    return flat


def _overview(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Build the rows of the first table: a label, and a value for each run."""
    chosen = [run.chosen for run in runs]

    def row(label: str, values: Sequence[str]) -> tuple[str, list[str]]:
        return label, list(values)

    teachers = [run.report.evaluation.teacher for run in runs]
    return [
        row("Chosen", [c.name if c else "none" for c in chosen]),
        row("Accuracy (test)", [format_accuracy(c.figures.get("test")) if c else "–" for c in chosen]),
        row("Accuracy (validation)", [format_accuracy(c.figures.get("validation")) if c else "–" for c in chosen]),
        row("Size", [format_bytes(c.bytes) if c else "–" for c in chosen]),
        row("MACs", [format_optional_count(c.macs) if c else "–" for c in chosen]),
        row("Latency", [format_latency(c.latency[0]) if c and c.latency else "–" for c in chosen]),
        row("Teacher (test)", [format_share(t.accuracy.get("test")) if t else "–" for t in teachers]),
        row("Objective", [run.report.choice.objective for run in runs]),
        row("Created", [run.report.created[:16].replace("T", " ") for run in runs]),
    ]


def _files(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Build the rows of the table of files: a name, and size and test accuracy in each run."""
    by_run = [{c.name: c for c in run.report.evaluation.candidates} for run in runs]
    names = dict.fromkeys(name for candidates in by_run for name in candidates)

    def cells(candidate: Candidate | None) -> tuple[str, str]:
        if candidate is None:
            return "–", "–"
        return format_bytes(candidate.bytes), format_accuracy(candidate.figures.get("test"))

    return [(name, [cells(candidates.get(name)) for candidates in by_run]) for name in names]


_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 360, 56, 40, 12


def _plot(runs: Sequence[Run]) -> dict[str, Any]:
    """Lay out test accuracy against size, on a logarithmic axis, as an SVG: marks, ticks and lines in pixels."""
    points = [
        (number, c, c.figures["test"])
        for number, run in enumerate(runs)
        for c in run.report.evaluation.candidates
        if not c.baseline and "test" in c.figures
    ]
    if not points:
        return {}
    sizes = np.log10([c.bytes for _, c, _ in points])
    low, high = min(f.top1_interval.low for *_, f in points), max(f.top1_interval.high for *_, f in points)
    # At least two points, so that the axis stays readable where all accuracies are alike.
    spread = max(0.02, 1.1 * (high - low))
    middle = (low + high) / 2
    low, high = middle - spread / 2, middle + spread / 2
    left, right = sizes.min() - 0.08, sizes.max() + 0.08

    def x(size: float) -> float:
        return round(_LEFT + (np.log10(size) - left) / (right - left) * (_WIDTH - _LEFT - 12), 1)

    def y(accuracy: float) -> float:
        return round(_TOP + (high - accuracy) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if spread / s <= 7 or s == 0.2)
    levels = [k * step for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1) if 0 <= k * step <= 1]
    decades = [m * 10**e for e in range(2, 9) for m in (1, 2, 5) if left <= np.log10(m * 10**e) <= right]
    return {
        "width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "base": _HEIGHT - _BOTTOM, "top": _TOP,
        "levels": [(y(level), f"{level:.1%}" if step < 0.01 else f"{level:.0%}") for level in levels],
        "sizes": [(x(size), format_bytes(size)) for size in decades],
        "marks": [
            {
                "run": number % 6, "x": x(c.bytes), "y": y(f.top1), "low": y(f.top1_interval.low),
                "high": y(f.top1_interval.high), "chosen": c.name == runs[number].report.choice.chosen,
                "title": f"{runs[number].name}: {c.name}, {format_bytes(c.bytes)}, {format_accuracy(f)}",
            }
            for number, c, f in points
        ],
    }  # fmt: skip
