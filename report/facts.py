# SPDX-License-Identifier: Apache-2.0
"""Lists the facts about a run: teacher, data, training, limits, host."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from learn2compress.modalities import modality_of
from learn2compress.report.layer_effects import describe_float_fallback
from learn2compress.report.wording import (
    STAGES,
    format_duration,
    format_host,
    format_ms,
    format_optional_count,
    format_percent,
)
from learn2compress.schemas.manifests import Initialization, quantized_how
from learn2compress.schemas.reports import Report
from learn2compress.schemas.units import format_bytes, format_count


def list_facts(report: Report) -> dict[str, Any]:
    """Describe data, teacher, training and host of a run in words."""
    data, teacher, evaluation = report.data, report.teacher, report.evaluation
    trained = report.trained_teacher
    after = trained.teacher if trained else None
    accuracies = after.accuracy if after else {}
    counts = data["counts"]
    duplicates = {pair.replace("/", " and "): count for pair, count in data["duplicates"].items() if count}
    seconds = sum(epoch.seconds for epoch in report.curves)
    chosen = next((c for c in evaluation.candidates if c.name == report.choice.chosen), None)
    return {
        "created": report.created.replace("T", " ").replace("+00:00", " UTC"),
        "classes": len(evaluation.task.classes),
        "shape": re.sub(r"(?<=\d)x(?=\d)", "×", modality_of(evaluation.task).presentation(evaluation.task).size),
        "splits": [(split, f"{count:,}") for split, count in counts.items()],
        "duplicates": duplicates,
        "near_duplicates": sum(data.get("near_duplicates", {}).values()),
        "unlabeled": _unlabeled(report),
        "duplicate_examples": data["duplicate_examples"][:10],
        "skipped": data["skipped"][:20],
        "skipped_count": data["skipped_count"],
        "teacher": [
            ("File", Path(teacher.model).name),
            ("Format", teacher.format),
            ("Size", format_bytes(teacher.bytes)),
            ("Parameters", format_optional_count(teacher.parameters)),
            ("MACs", format_optional_count(teacher.macs)),
            *[(f"Accuracy on {split}", format_percent(value)) for split, value in teacher.accuracy.items()],
            *[(f"Jointly trained, accuracy on {split}", format_percent(value)) for split, value in accuracies.items()],
            ("Forward passes", _forward_passes(report)),
            ("SHA-256", teacher.sha256),
            *([("Jointly trained, SHA-256", after.sha256)] if after and after.accuracy else []),
        ],
        "training_time": format_duration(seconds),
        "epochs": _epochs(report),
        "initialization": _describe_initialization(report.students.initialization),
        "host": format_host(report),
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
        "float_fallback": describe_float_fallback(chosen) if chosen else "",
        "latencies": chosen.latency if chosen else [],
        "validation": f"{evaluation.images.get('validation', 0):,}",
        "test": f"{evaluation.images.get('test', 0):,}",
        "chosen_sha256": report.choice.sha256 or "",
        "tried": sum(not c.baseline for c in evaluation.candidates),
    }


def _describe_initialization(initialization: Initialization | None) -> str:
    """Describe in a sentence how the students were initialized."""
    if initialization is None:
        return ""
    if initialization.kind == "teacher":
        return "They are cut out of the teacher’s own network, and began with its weights."
    if initialization.kind == "students":
        logits = ", except for the layers of the logits, since the classes differ" if initialization.new_logits else ""
        digest = f"SHA-256 {initialization.source_sha256[:16]}…"
        return f"They were initialized from the students of an earlier run ({digest}){logits}."
    unlabeled = (
        f" and {initialization.unlabeled_images:,} images without labels" if initialization.unlabeled_images else ""
    )
    return (
        f"They first learned to predict the teacher’s features at its layer {initialization.feature_layer}, on "
        f"{initialization.labeled_images:,} training images{unlabeled}."
    )


def _unlabeled(report: Report) -> str:
    """Describe the examples without labels whose logits the students learned; empty if there are none."""
    found, distill = report.data.get("unlabeled"), report.config.get("distill", {})
    default = "features" if distill.get("init") == "features" else "logits"
    if not found or (distill.get("unlabeled") or default) == "features":
        return ""
    return f"{found['count']:,} {report.evaluation.task.modality}s without labels among them"


def _forward_passes(report: Report) -> str:
    initialization = report.students.initialization
    passes = initialization.forward_passes if initialization else 0
    features = f", and {passes:,} for its features alone" if passes else ""
    return f"{report.teacher_forward_passes:,} {report.evaluation.task.modality}s{features}"


def _epochs(report: Report) -> str:
    """Describe the epochs: "30 epochs of distillation, 6 of pruning and 4 of quantization"."""
    counts = Counter(epoch.stage for epoch in report.curves)
    parts = [f"{count} of {STAGES[stage]}" for stage, count in counts.items()]
    if not parts:
        return "no epochs"
    first = parts[0].replace(" of ", " epoch of " if parts[0].startswith("1 ") else " epochs of ", 1)
    return " and ".join(filter(None, [", ".join([first, *parts[1:-1]]), *parts[1:][-1:]]))


def format_limits(report: Report) -> str:
    """Format the limits of the choice, separated by commas."""
    given = report.choice.limits
    parts = []
    if given.max_size is not None:
        parts.append(f"at most {format_bytes(given.max_size)}")
    if given.max_latency_ms is not None:
        parts.append(f"at most {format_ms(given.max_latency_ms)}")
    if given.max_macs is not None:
        parts.append(f"at most {format_count(given.max_macs)} MACs")
    if given.min_accuracy is not None:
        parts.append(f"at least {format_percent(given.min_accuracy)} accurate")
    if given.max_accuracy_drop is not None:
        parts.append(f"at most {100 * given.max_accuracy_drop:.1f} points below the teacher")
    return ", ".join(parts) or "none"
