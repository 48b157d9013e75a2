# SPDX-License-Identifier: Apache-2.0
"""Draws a Report as one self-contained HTML page: no network, plots by plotly.js, which is packed into it.

What the page says is worked out here, in words and numbers ready to print; report.html.j2 places it, report.css
dresses it, and report.js adds what moves: plots, sorting, the switch between files. Without JavaScript everything
but the plots is there.

plotly.js comes with the Python package, 4.8 MB of it. It is embedded gzipped, 2 MB as text, and unpacked by the
browser.
"""

import base64
import gzip
import importlib.util
import json
import math
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from learn2compress.schemas.manifests import Drop, Initialization, Split, quantized_how
from learn2compress.schemas.reports import Candidate, Latency, Report, SplitFigures, Verdict
from learn2compress.schemas.units import format_bytes, format_count, format_points

MANY_CLASSES = 16  # more than that, and the confusion matrix is told as its largest cells
MANY_FILES_CLASSES = 40  # more than that, and only the chosen file's mistakes are shown
SHOWN_CONFUSIONS = 20
SHOWN_CLASSES = 40
SHOWN_FLIPS = 12  # of each kind
STAGES = {
    "features": "learning the teacher's features",
    "distilled": "distillation",
    "thinned": "fine-tuning without the removed channels",
    "pruned": "pruning",
    "quantized": "quantization",
}
STATUS = {
    "chosen": "Chosen",
    "front": "On the front",
    "dominated": "Dominated",
    "over limit": "Over a limit",
    "failed": "Failed",
    "baseline": "Reference",
}


def render_report(report: Report, thumbnails: Mapping[str, str]) -> str:
    """Draws the page.

    Args:
        report: What to show.
        thumbnails: Pictures of examples, data URIs by id; those that are missing are left out.

    Returns:
        HTML.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["ms"] = lambda value: "–" if value is None else _ms(value)
    template = environment.from_string(_file("report.html.j2"))
    return template.render(
        css=_file("report.css"),
        js=_file("report.js"),
        plotly=_packed_plotly(),
        data=_for_script({"plots": _plots(report), "curves": _curves(report), "thumbnails": _used(report, thumbnails)}),
        thumbnails=thumbnails,
        verdict=_verdict(report),
        rows=_rows(report),
        mistakes=_mistakes(report),
        facts=_facts(report),
        sensitivity=_sensitivity(report),
        eight_bits=_eight_bits(report),
        report=report,
        config=yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True),
    )


def _verdict(report: Report) -> dict[str, Any]:
    """What was chosen and why, with its figures."""
    choice, evaluation = report.choice, report.evaluation
    chosen = next((c for c in evaluation.candidates if c.name == choice.chosen), None)
    limits = _limits(report)
    if chosen is None:
        return {"title": "No file satisfies the limits", "reason": "", "limits": limits, "figures": [], "split": ""}
    reason = next(v.reason for v in choice.verdicts if v.candidate == chosen.name)
    split: Split = "test" if "test" in chosen.figures else "validation"
    figures = chosen.figures[split]
    teacher = evaluation.teacher
    cards = [
        {
            "name": "Accuracy",
            "value": _percent(figures.top1),
            "detail": f"95 % interval {_interval(figures)}",
            "more": _against_teacher(figures.top1, teacher.accuracy.get(split)) if teacher else "",
        },
        {
            "name": "Size",
            "value": format_bytes(chosen.bytes),
            "detail": f"{format_bytes(chosen.gzip_bytes)} as a compressed download",
            "more": f"{_times(teacher.bytes / chosen.bytes)} smaller than the teacher" if teacher else "",
        },
    ]
    if chosen.macs is not None:
        fewer = teacher and teacher.macs and teacher.macs / chosen.macs
        cards.append(
            {
                "name": "Compute",
                "value": f"{format_count(chosen.macs)} MACs",
                "detail": "multiply-accumulates an image",
                "more": f"{_times(fewer)} fewer than the teacher" if fewer else "",
            }
        )
    if chosen.latency:
        first = chosen.latency[0]
        cards.append(
            {
                "name": "Latency",
                "value": _ms(first.p50_ms),
                "detail": f"{first.statistic}, {first.threads} thread{'s' * (first.threads > 1)}, {_host(report)}",
                "more": "" if first.p90_ms is None else f"90 % of images within {_ms(first.p90_ms)}",
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


def _rows(report: Report) -> list[dict[str, Any]]:
    """The table of candidates. Each cell has the text that is shown and the number it is sorted by."""
    verdicts = {verdict.candidate: verdict for verdict in report.choice.verdicts}
    order = list(verdicts)
    rows = []
    for candidate in sorted(report.evaluation.candidates, key=lambda c: order.index(c.name) if c.name in order else 99):
        verdict = verdicts.get(candidate.name)
        test, validation = candidate.figures.get("test"), candidate.figures.get("validation")
        latency = candidate.latency[0] if candidate.latency else None
        rows.append(
            {
                "name": candidate.name,
                "status": verdict.status if verdict else "failed",
                "word": STATUS[verdict.status] if verdict else "",
                "reason": _after_status(verdict) if verdict else "",
                "rescue": _rescue(candidate),
                "sha256": candidate.sha256,
                "cells": [
                    ("Test accuracy", _accuracy(test), test.top1 if test else -1),
                    ("Validation accuracy", _accuracy(validation), validation.top1 if validation else -1),
                    ("Agrees with teacher", _share(test and test.agreement), (test and test.agreement) or -1),
                    ("Calibration error", _share(test and test.calibration_error),
                     test.calibration_error if test else 9),
                    ("Size", format_bytes(candidate.bytes), candidate.bytes),
                    ("Compressed", format_bytes(candidate.gzip_bytes), candidate.gzip_bytes),
                    ("Parameters", _count(candidate.parameters), candidate.parameters or 0),
                    ("MACs", _count(candidate.macs), candidate.macs or 0),
                    ("Memory", "–" if candidate.arena_bytes is None else format_bytes(candidate.arena_bytes),
                     candidate.arena_bytes or 0),
                    ("Latency", _latency(latency), latency.p50_ms if latency else 1e9),
                ],
            }
        )  # fmt: skip
    return rows


def _after_status(verdict: Verdict) -> str:
    """The reason as it reads behind the status."""
    for start in ("on the front: ", "dominated "):
        if verdict.reason.startswith(start):
            return verdict.reason.removeprefix(start)
    return verdict.reason


def _mistakes(report: Report) -> list[dict[str, Any]]:
    """For each file: its classes, its confusions, and images on which it and the teacher differ."""
    classes = report.evaluation.task.classes
    shown = []
    for candidate in report.evaluation.candidates:
        split = "test" if "test" in candidate.figures else "validation"
        figures = candidate.figures.get(split)
        if figures is None or (len(classes) > MANY_FILES_CLASSES and candidate.name != report.choice.chosen):
            continue
        shown.append(
            {
                "name": candidate.name,
                "chosen": candidate.name == report.choice.chosen,
                "split": split,
                "images": figures.images,
                "k": figures.k,
                "topk": _percent(figures.topk),
                "lost": figures.lost,
                "won": figures.won,
                "classes": _class_rows(figures, classes),
                "hidden_classes": max(0, len(classes) - SHOWN_CLASSES),
                "confusion": _confusion(figures, classes) if len(classes) <= MANY_CLASSES else None,
                "confusions": _largest_confusions(figures, classes),
                "flips": _flips(figures, classes),
            }
        )
    return sorted(shown, key=lambda entry: not entry["chosen"])


def _class_rows(figures: SplitFigures, classes: list[str]) -> list[dict[str, Any]]:
    rows = [
        {
            "name": name,
            "images": of.images,
            "recall": of.recall,
            "precision": of.precision,
            "f1": f"{of.f1:.3f}",
            "recall_text": _percent(of.recall),
            "precision_text": _percent(of.precision),
            "score": of.f1,
        }
        for name, of in zip(classes, figures.per_class, strict=True)
    ]
    if len(rows) > SHOWN_CLASSES:
        rows = sorted(rows, key=lambda row: row["score"])[:SHOWN_CLASSES]
    return rows


def _confusion(figures: SplitFigures, classes: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "label": classes[label],
            "cells": [
                {
                    "count": count,
                    "share": round(count / max(1, sum(row)), 3),
                    "right": label == prediction,
                    "prediction": classes[prediction],
                }
                for prediction, count in enumerate(row)
            ],
        }
        for label, row in enumerate(figures.confusion)
    ]


def _largest_confusions(figures: SplitFigures, classes: list[str]) -> list[dict[str, Any]]:
    cells = [
        (count, label, prediction)
        for label, row in enumerate(figures.confusion)
        for prediction, count in enumerate(row)
        if count and label != prediction
    ]
    return [
        {"label": classes[label], "prediction": classes[prediction], "count": count,
         "share": _percent(count / sum(figures.confusion[label]))}
        for count, label, prediction in sorted(cells, key=lambda cell: (-cell[0], cell[1:]))[:SHOWN_CONFUSIONS]
    ]  # fmt: skip


def _flips(figures: SplitFigures, classes: list[str]) -> dict[str, list[dict[str, str]]]:
    kinds: dict[str, list[dict[str, str]]] = {"lost": [], "won": []}
    for flip in figures.flips:
        kind = kinds["lost" if flip.teacher == flip.label else "won"]
        if len(kind) < SHOWN_FLIPS:
            kind.append(
                {
                    "id": flip.id,
                    "source": flip.source,
                    "label": classes[flip.label],
                    "teacher": classes[flip.teacher],
                    "student": classes[flip.student],
                }
            )
    return kinds


def _used(report: Report, thumbnails: Mapping[str, str]) -> dict[str, str]:
    """The pictures that the script may have to show: those of the files that are hidden at first."""
    ids = {
        flip["id"]
        for entry in _mistakes(report)
        if not entry["chosen"]
        for kind in entry["flips"].values()
        for flip in kind
    }
    return {identity: thumbnails[identity] for identity in sorted(ids) if identity in thumbnails}


def _plots(report: Report) -> dict[str, Any]:
    """Points and reference lines of the Pareto plots, on the split that chooses."""
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
            "text": f"<b>teacher</b><br>{_percent(teacher.accuracy['validation'])} on validation<br>"
            f"{format_bytes(teacher.bytes)}, {_count(teacher.macs)} MACs",
        },
        "limits": choice.limits.model_dump(exclude_none=True),
        "axes": {
            "bytes": {"title": "Size", "log": True, "ticks": "bytes", "limit": choice.limits.max_size},
            "macs": {"title": "MACs", "log": True, "ticks": "count", "limit": choice.limits.max_macs},
            "latency": {
                "title": f"Latency, {_host(report)}",
                "log": True,
                "ticks": "ms",
                "limit": choice.limits.max_latency_ms,
            },
        },
    }


def _hover(candidate: Candidate) -> str:
    lines = [f"<b>{candidate.name}</b>"]
    for split, figures in candidate.figures.items():
        lines.append(f"{_percent(figures.top1)} on {split} ({_interval(figures)})")
    lines.append(f"{format_bytes(candidate.bytes)}, {_count(candidate.macs)} MACs")
    if candidate.latency:
        lines.append(f"{_latency(candidate.latency[0])}")
    return "<br>".join(lines)


def _curves(report: Report) -> dict[str, Any]:
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


def _facts(report: Report) -> dict[str, Any]:
    """Data, teacher and the host, in words."""
    data, teacher, evaluation = report.data, report.teacher, report.evaluation
    trained = report.trained_teacher
    after = trained.teacher.accuracy if trained and trained.teacher else {}
    counts = data["counts"]
    duplicates = {pair.replace("/", " and "): count for pair, count in data["duplicates"].items() if count}
    seconds = sum(epoch.seconds for epoch in report.curves)
    chosen = next((c for c in evaluation.candidates if c.name == report.choice.chosen), None)
    return {
        "created": report.created.replace("T", " ").replace("+00:00", " UTC"),
        "classes": len(evaluation.task.classes),
        "shape": "×".join(map(str, evaluation.task.input_shape)),
        "splits": [(split, f"{count:,}") for split, count in counts.items()],
        "duplicates": duplicates,
        "duplicate_examples": data["duplicate_examples"][:10],
        "skipped": data["skipped"][:20],
        "skipped_count": data["skipped_count"],
        "teacher": [
            ("File", Path(teacher.model).name),
            ("Format", teacher.format),
            ("Size", format_bytes(teacher.bytes)),
            ("Parameters", _count(teacher.parameters)),
            ("MACs", _count(teacher.macs)),
            *[(f"Accuracy on {split}", _percent(value)) for split, value in teacher.accuracy.items()],
            *[(f"Trained along, on {split}", _percent(value)) for split, value in after.items()],
            ("Forward passes spent", f"{report.teacher_forward_passes:,} images{_feature_passes(report)}"),
            ("SHA-256", teacher.sha256),
            *([("Trained along, SHA-256", trained.teacher.sha256)] if after else []),
        ],
        "training_time": _duration(seconds),
        "epochs": _epochs(report),
        "beginning": _beginning(report.students.initialization),
        "host": _host(report),
        "statistic": next((c.latency[0].statistic for c in evaluation.candidates if c.latency), "median"),
        "host_is_device": evaluation.host.source == "device",
        "processor": evaluation.host.processor,
        "runtime": evaluation.host.runtime,
        "layers": chosen.layers if chosen else [],
        "preflight": [
            {"name": student.name, "how": quantized_how(student.preflight), "layers": student.preflight}
            for student in report.students.students
            if student.preflight
        ],
        "calibration": chosen.calibration if chosen else None,
        "ops": sorted(chosen.ops.items(), key=lambda item: -item[1]) if chosen else [],
        "full_int8": chosen.full_int8 if chosen else False,
        "rescue": _rescue(chosen) if chosen else "",
        "latencies": chosen.latency if chosen else [],
        "validation": f"{evaluation.images.get('validation', 0):,}",
        "test": f"{evaluation.images.get('test', 0):,}",
        "chosen_sha256": report.choice.sha256 or "",
        "tried": sum(not c.baseline for c in evaluation.candidates),
    }


def _sensitivity(report: Report) -> dict[str, Any] | None:
    """How much each layer minds, as tables whose cells have a text, a number to sort by, and a heat from 0 to 1."""
    found = report.students.sensitivity
    if found is None:
        return None
    shares = next((one.zeros for one in found.layers if one.zeros), ())
    tables = [
        {
            "id": "layers-mind",
            "title": "By layer",
            "note": "Its smallest weights made zero, or its weights and its output rounded to 8 bits. What minds "
            "is given fewer zeros. Depthwise layers and the first convolution are left dense: few weights, dear ones.",
            "heads": [
                ("Layer", ""),
                ("Students", "wide"),
                ("Weights", "n wide"),
                *((f"{drop.share:.0%} zeros", "n") for drop in shares),
                ("8 bits", "n"),
                ("Zeros given", "n"),
            ],
            "rows": [
                {
                    "name": layer.layer,
                    "cells": [
                        _cell(", ".join(layer.students), len(layer.students), "wide"),
                        _cell(f"{layer.weights:,}", layer.weights, "n wide"),
                        *(_heat(drop) for drop in layer.zeros or [None] * len(shares)),
                        _heat(layer.int8),
                        _cell("–" if layer.sparsity is None else f"{layer.sparsity:.0%}", layer.sparsity or 0),
                    ],
                }
                for layer in found.layers
            ],
        }
    ]
    if found.channels:
        tables.append(
            {
                "id": "channels-mind",
                "title": "By channel group",
                "note": "The least important channels of all layers that share them removed.",
                "heads": [
                    ("Group", ""),
                    ("Students", "wide"),
                    ("Channels", "n"),
                    *((f"{drop.share:.0%} removed", "n") for drop in found.channels[0].removed),
                    ("Kept", "n"),
                ],
                "rows": [
                    {
                        "name": group.group,
                        "cells": [
                            _cell(", ".join(group.students), len(group.students), "wide"),
                            _cell(f"{group.channels:,}", group.channels),
                            *map(_heat, group.removed),
                            _cell("–" if group.kept is None else f"{group.kept:,}", group.kept or 0),
                        ],
                    }
                    for group in found.channels
                ],
            }
        )
    return {"images": f"{found.images:,}", "tables": [table for table in tables if table["rows"]]}


def _cell(text: str, value: float, kind: str = "n") -> dict[str, Any]:
    return {"text": text, "value": value, "kind": kind, "heat": None}


def _heat(drop: Drop | None) -> dict[str, Any]:
    if drop is None:
        return _cell("–", -1)
    # From a thousandth of a nat, which is noise, to a few, where nothing is left of the answers.
    heat = (math.log10(max(drop.divergence, 1e-3)) + 3) / 3.3
    points = f"{100 * drop.accuracy_drop:.1f}"
    return {
        "text": points.replace("-", "−") if float(points) else "0.0",
        "value": drop.divergence,
        "kind": "n heat",
        "heat": round(min(heat, 1), 2),
        "title": f"{drop.divergence:.2g}",
    }


def _beginning(began: Initialization | None) -> str:
    """What the students began as, in a sentence."""
    if began is None:
        return ""
    if began.kind == "students":
        logits = ", but for their logits, since the classes are others" if began.new_logits else ""
        return f"They began as an earlier run’s students (SHA-256 {began.source_sha256[:16]}…){logits}."
    unlabeled = f" and on {began.unlabeled_images:,} without labels" if began.unlabeled_images else ""
    return (
        f"They began by learning the teacher’s features at its layer {began.feature_layer}, on "
        f"{began.labeled_images:,} training images{unlabeled}."
    )


def _feature_passes(report: Report) -> str:
    began = report.students.initialization
    return f", and {began.forward_passes:,} for its features alone" if began and began.forward_passes else ""


def _rescue(candidate: Candidate) -> str:
    """Which layers were kept in float, what that cost and what it brought."""
    rescue = candidate.rescue
    if rescue is None:
        return ""
    gain, cost = rescue.accuracy - rescue.int8_accuracy, rescue.bytes_added
    size = f"{format_bytes(abs(cost))} {'more' if cost >= 0 else 'less'}"
    return (
        f"{candidate.arithmetic}: {', '.join(rescue.layers)}. That takes {size} than {rescue.model} and brings "
        f"{format_points(gain)} on {rescue.images:,} validation images, where float32 has "
        f"{_percent(rescue.float32_accuracy)}."
    )


def _eight_bits(report: Report) -> list[dict[str, Any]]:
    """For each student, what 8 bits do to its layers, worst first."""
    chosen = next((c.student for c in report.evaluation.candidates if c.name == report.choice.chosen), None)
    return [
        {
            "model": found.model,
            "open": found.student == chosen,
            "images": found.images,
            "logits": _decibels(found.logits_sqnr_db),
            "changed": _percent(found.changed),
            "layers": [
                {
                    "layer": layer.layer,
                    "op": layer.op,
                    "cause": {"weights": "rounded weights", "range": "rounded output"}[layer.cause],
                    "logits": _decibels(layer.logits_sqnr_db),
                    "changed": _percent(layer.changed),
                    "own": _decibels(layer.sqnr_db),
                    "rmse": f"{layer.rmse_over_scale:.2f}",
                }
                for layer in found.layers
            ],
        }
        for found in report.quantization_error
    ]


def _decibels(ratio: float | None) -> str:
    return "nothing lost" if ratio is None else f"{ratio:.1f}\N{NO-BREAK SPACE}dB"


def _epochs(report: Report) -> str:
    """ "30 epochs of distillation, 6 of pruning and 4 of quantization" """
    counts = Counter(epoch.stage for epoch in report.curves)
    parts = [f"{count} of {STAGES[stage]}" for stage, count in counts.items()]
    if not parts:
        return "no epochs"
    first = parts[0].replace(" of ", " epoch of " if parts[0].startswith("1 ") else " epochs of ", 1)
    return " and ".join(filter(None, [", ".join([first, *parts[1:-1]]), *parts[1:][-1:]]))


def _limits(report: Report) -> str:
    given = report.choice.limits
    parts = []
    if given.max_size is not None:
        parts.append(f"at most {format_bytes(given.max_size)}")
    if given.max_latency_ms is not None:
        parts.append(f"at most {_ms(given.max_latency_ms)}")
    if given.max_macs is not None:
        parts.append(f"at most {format_count(given.max_macs)} MACs")
    if given.min_accuracy is not None:
        parts.append(f"at least {_percent(given.min_accuracy)} accurate")
    if given.max_accuracy_drop is not None:
        parts.append(f"at most {100 * given.max_accuracy_drop:.1f} points below the teacher")
    return ", ".join(parts) or "none"


def _host(report: Report) -> str:
    return f"on {report.evaluation.host.name}"


def _against_teacher(accuracy: float, teacher: float | None) -> str:
    if teacher is None:
        return ""
    points = 100 * (accuracy - teacher)
    if abs(points) < 0.05:
        return "as accurate as the teacher"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'} the teacher’s {_percent(teacher)}"


def _accuracy(figures: SplitFigures | None) -> str:
    if figures is None:
        return "–"
    half = 50 * (figures.top1_interval.high - figures.top1_interval.low)
    return f"{_percent(figures.top1)} ± {half:.1f}"


def _interval(figures: SplitFigures) -> str:
    return f"{100 * figures.top1_interval.low:.1f} to {100 * figures.top1_interval.high:.1f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _share(share: float | None) -> str:
    return "–" if share is None else _percent(share)


def _count(count: int | None) -> str:
    return "–" if count is None else format_count(count)


def _ms(milliseconds: float) -> str:
    if milliseconds < 0.1:
        return f"{1000 * milliseconds:.3g}\N{NO-BREAK SPACE}µs"
    return f"{milliseconds:.3g}\N{NO-BREAK SPACE}ms"


def _latency(latency: Latency | None) -> str:
    return "–" if latency is None else _ms(latency.p50_ms)


def _times(factor: float) -> str:
    return f"{factor:.3g}×" if factor < 1000 else f"{factor:,.0f}×"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _for_script(data: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _file(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _packed_plotly() -> str:
    """plotly.js, gzipped, as text. The package is found and not imported, which takes longer than all the rest."""
    folder = importlib.util.find_spec("plotly").submodule_search_locations[0]
    source = Path(folder, "package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(source, compresslevel=6, mtime=0)).decode()
