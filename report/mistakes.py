# SPDX-License-Identifier: Apache-2.0
"""Lists the errors of each file: by class, by confused pair, and by examples on which file and teacher differ."""

from collections.abc import Mapping
from typing import Any

from learn2compress.report.wording import format_percent
from learn2compress.schemas.manifests import Split
from learn2compress.schemas.reports import Report, SplitFigures

MANY_CLASSES = 16  # above this number, the largest cells are listed instead of the confusion matrix
MANY_FILES_CLASSES = 40  # above this number, only the chosen file's errors are shown
SHOWN_CONFUSIONS = 20
SHOWN_CLASSES = 40
SHOWN_FLIPS = 12  # of each kind


def list_mistakes(report: Report) -> list[dict[str, Any]]:
    """List classes, confusions and flips of each file, the chosen one first."""
    classes = report.evaluation.task.classes
    shown = []
    for candidate in report.evaluation.candidates:
        split: Split = "test" if "test" in candidate.figures else "validation"
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
                "topk": format_percent(figures.topk),
                "negative_flips": figures.lost,
                "positive_flips": figures.won,
                "classes": _class_rows(figures, classes),
                "hidden_classes": max(0, len(classes) - SHOWN_CLASSES),
                "confusion": _confusion(figures, classes) if len(classes) <= MANY_CLASSES else None,
                "confusions": _largest_confusions(figures, classes),
                "flips": _flips(figures, classes),
                "words": candidate.class_words,
            }
        )
    return sorted(shown, key=lambda entry: not entry["chosen"])


def _class_rows(figures: SplitFigures, classes: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "images": of.images,
            "recall": of.recall,
            "precision": of.precision,
            "f1": f"{of.f1:.3f}",
            "recall_text": format_percent(of.recall),
            "precision_text": format_percent(of.precision),
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
         "share": format_percent(count / sum(figures.confusion[label]))}
        for count, label, prediction in sorted(cells, key=lambda cell: (-cell[0], cell[1:]))[:SHOWN_CONFUSIONS]
    ]  # fmt: skip


def _flips(figures: SplitFigures, classes: list[str]) -> dict[str, list[dict[str, str]]]:
    kinds: dict[str, list[dict[str, str]]] = {"negative_flips": [], "positive_flips": []}
    for flip in figures.flips:
        kind = kinds["negative_flips" if flip.teacher == flip.label else "positive_flips"]
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


def thumbnails_used(report: Report, thumbnails: Mapping[str, str]) -> dict[str, str]:
    """Return the pictures that the script needs: those of the files that are hidden at first."""
    ids = {
        flip["id"]
        for entry in list_mistakes(report)
        if not entry["chosen"]
        for kind in entry["flips"].values()
        for flip in kind
    }
    pictures = {identity: one for identity, one in thumbnails.items() if one.startswith("data:")}
    return {identity: pictures[identity] for identity in sorted(ids) if identity in pictures}
