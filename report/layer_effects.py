# SPDX-License-Identifier: Apache-2.0
"""Tabulates the effects of pruning and of 8-bit quantization, layer by layer."""

import math
from typing import Any

from learn2compress.report.wording import format_percent
from learn2compress.schemas.manifests import Drop
from learn2compress.schemas.reports import Candidate, Report
from learn2compress.schemas.units import format_bytes, format_points


def sensitivity_table(report: Report) -> dict[str, Any] | None:
    """Build tables of each layer's sensitivity; a cell has a text, a number to sort by, and a heat from 0 to 1."""
    found = report.students.sensitivity
    if found is None:
        return None
    shares = next((one.zeros for one in found.layers if one.zeros), ())
    unmeasured: list[Drop | None] = [None] * len(shares)
    tables = [
        {
            "id": "layer-sensitivity",
            "title": "By layer",
            "note": "The smallest weights of the layer set to zero, or its weights and output rounded to 8 bits. More "
            "sensitive layers get fewer zeros. Depthwise layers and the first convolution stay dense: they have few "
            "weights, and each of them matters.",
            "heads": [
                ("Layer", ""),
                ("Students", "wide"),
                ("Weights", "n wide"),
                *((f"{drop.share:.0%} zeros", "n") for drop in shares),
                ("8 bits", "n"),
                ("Zeros assigned", "n"),
            ],
            "rows": [
                {
                    "name": layer.layer,
                    "cells": [
                        _cell(", ".join(layer.students), len(layer.students), "wide"),
                        _cell(f"{layer.weights:,}", layer.weights, "n wide"),
                        *(_heat(drop) for drop in layer.zeros or unmeasured),
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
                "id": "channel-sensitivity",
                "title": "By channel group",
                "note": "The least important channels removed from all layers that share them.",
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
    # From a thousandth of a nat, which is noise, to a few nats, where the outputs are unrelated.
    heat = (math.log10(max(drop.divergence, 1e-3)) + 3) / 3.3
    points = f"{100 * drop.accuracy_drop:.1f}"
    return {
        "text": points.replace("-", "−") if float(points) else "0.0",
        "value": drop.divergence,
        "kind": "n heat",
        "heat": round(min(heat, 1), 2),
        "title": f"{drop.divergence:.2g}",
    }


def describe_float_fallback(candidate: Candidate) -> str:
    """Describe the layers that stay in float, with their cost in bytes and the accuracy gained."""
    fallback = candidate.rescue
    if fallback is None:
        return ""
    gain, cost = fallback.accuracy - fallback.int8_accuracy, fallback.bytes_added
    size = f"{format_bytes(abs(cost))} {'larger' if cost >= 0 else 'smaller'}"
    return (
        f"{candidate.arithmetic}: {', '.join(fallback.layers)}. The file is {size} than {fallback.model} and gains "
        f"{format_points(gain)} on {fallback.images:,} validation images, where float32 reaches "
        f"{format_percent(fallback.float32_accuracy)}."
    )


def list_8_bit_effects(report: Report) -> list[dict[str, Any]]:
    """List the effect of 8 bits on each layer of each student, largest error first."""
    chosen = next((c.student for c in report.evaluation.candidates if c.name == report.choice.chosen), None)
    return [
        {
            "model": found.model,
            "open": found.student == chosen,
            "images": found.images,
            "logits": _decibels(found.logits_sqnr_db),
            "changed": format_percent(found.changed),
            "layers": [
                {
                    "layer": layer.layer,
                    "op": layer.op,
                    "cause": {"weights": "rounded weights", "range": "rounded output"}[layer.cause],
                    "logits": _decibels(layer.logits_sqnr_db),
                    "changed": format_percent(layer.changed),
                    "own": _decibels(layer.sqnr_db),
                    "rmse": f"{layer.rmse_over_scale:.2f}",
                }
                for layer in found.layers
            ],
        }
        for found in report.quantization_error
    ]


def _decibels(ratio: float | None) -> str:
    return "no error" if ratio is None else f"{ratio:.1f}\N{NO-BREAK SPACE}dB"
