# SPDX-License-Identifier: Apache-2.0
"""The limits at which the choice changes, on figures that can be worked out by hand."""

import numpy as np
import pytest

from learn2compress.evaluation.selection import choose
from learn2compress.pipeline.what_if import list_what_ifs
from learn2compress.schemas.config import SelectConfig
from learn2compress.schemas.reports import Evaluation, Limits


@pytest.fixture
def evaluate(make_report):
    """Makes an evaluation of candidates with (bytes, accuracy on the validation split, latency in milliseconds)."""

    def make(*figures: tuple[int, float, float | None]) -> Evaluation:
        evaluation = make_report(images=100)[0].evaluation
        candidates = []
        students = [c for c in evaluation.candidates if not c.baseline]
        for number, (candidate, (size, accuracy, latency)) in enumerate(zip(students, figures, strict=False)):
            measured = candidate.figures["validation"].model_copy(update={"top1": accuracy})
            timed = [candidate.latency[0].model_copy(update={"p50_ms": latency})] if latency else []
            update = {"name": f"m{number}", "bytes": size, "figures": {"validation": measured}, "latency": timed}
            candidates.append(candidate.model_copy(update=update))
        return evaluation.model_copy(update={"candidates": candidates})

    return make


def rows(evaluation, correctness=None):
    return [
        (" ".join(f"{name}={value}" for name, value in row.options.items()), row.choice.chosen)
        for row in list_what_ifs(evaluation, correctness)
    ]


def test_what_if_lists_the_steps_at_which_the_choice_changes(evaluate):
    # m2 is larger and slower than m1, and worse: no limit on size or latency chooses it.
    evaluation = evaluate((10_042, 0.8, 0.3), (23_701, 0.9, 0.2), (30_000, 0.85, 0.4), (1_500_000, 0.9509, 0.50049))

    assert rows(evaluation) == [
        ("max_size=10.1KB", "m0"),
        ("max_size=23.8KB", "m1"),
        ("max_size=1.5MB", "m3"),
        ("max_latency_ms=0.2", "m1"),
        ("max_latency_ms=0.501", "m3"),
        ("min_accuracy=0.8 objective=size", "m0"),
        ("min_accuracy=0.9 objective=size", "m1"),
        ("min_accuracy=0.95 objective=size", "m3"),
    ]


def test_what_if_leaves_out_latency_when_none_was_measured(evaluate):
    assert [row for row in rows(evaluate((500, 0.8, None), (999_700, 0.9, None))) if "min" not in row[0]] == [
        ("max_size=500B", "m0"),
        ("max_size=1000KB", "m1"),
    ]


def test_what_if_prefers_a_smaller_file_that_is_as_good(evaluate):
    evaluation = evaluate((10_000, 0.9, None), (20_000, 0.9, None))
    correct = np.arange(100) < 90
    nearly = correct.copy()
    nearly[0] = False
    correctness = {"m0": nearly, "m1": correct}

    assert {chosen for options, chosen in rows(evaluation, correctness) if "max_size" in options} == {"m0"}


def test_what_if_gives_options_that_lead_to_the_choice(evaluate):
    evaluation = evaluate((10_042, 0.8, 0.3), (23_701, 0.9, 0.2), (30_000, 0.85, 0.4), (1_500_000, 0.9509, 0.50049))

    for row in list_what_ifs(evaluation):
        select = SelectConfig.model_validate(row.options)
        limits = Limits(**select.model_dump(exclude={"objective"}))
        assert choose(evaluation, limits, select.objective) == row.choice
