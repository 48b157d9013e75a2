# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.report.page import render_report
from learn2compress.report.shortfall import find_shortfall, is_near_chance
from learn2compress.schemas.reports import Limits


@pytest.fixture
def report(make_report):
    """A report whose chosen file, large-int8 or medium-int8, is 5 to 7 points below its teacher."""
    return make_report(limits=Limits(max_size=500_000), objective="accuracy_strict")[0]


def with_accuracies(report, **accuracies):
    """Copies a report with other validation accuracies, by file name with an underscore for the hyphen."""
    candidates = []
    for candidate in report.evaluation.candidates:
        if (name := candidate.name.replace("-", "_")) in accuracies:
            figures = candidate.figures["validation"].model_copy(update={"top1": accuracies.pop(name)})
            candidate = candidate.model_copy(update={"figures": {**candidate.figures, "validation": figures}})
        candidates.append(candidate)
    assert not accuracies
    return report.model_copy(update={"evaluation": report.evaluation.model_copy(update={"candidates": candidates})})


def with_choice(report, name):
    return report.model_copy(update={"choice": report.choice.model_copy(update={"chosen": name})})


def with_training(report, images_a_class, batch_size=100, **distill):
    """Copies a report of 30 epochs with another number of training images."""
    count = len(report.evaluation.task.classes)
    data = {
        **report.data,
        "counts": {**report.data["counts"], "train": images_a_class * count},
        "per_class": {**report.data["per_class"], "train": [images_a_class] * count},
    }
    return report.model_copy(update={"data": data, "config": {"distill": {"batch_size": batch_size, **distill}}})


def test_shortfall_is_none_when_the_file_is_close_to_its_teacher(report):
    close = with_choice(with_accuracies(report, large_float32=0.92), "large-float32")

    assert find_shortfall(close) is None
    assert "Far below" not in render_report(close, {})


def test_shortfall_is_none_when_nothing_was_chosen(report):
    assert find_shortfall(with_choice(report, None)) is None


def test_shortfall_names_a_larger_file_that_is_better(report):
    poor = with_choice(with_accuracies(report, small_int8=0.70, small_float32=0.70, large_int8=0.88), "small-int8")
    shortfall = find_shortfall(with_training(poor, images_a_class=10_000))

    assert not shortfall.near_chance
    assert shortfall.finding.replace("\N{NO-BREAK SPACE}", " ") == (
        "small-int8 classifies 70.0 % of 1,000 validation images correctly, 23.6 points less than its teacher."
    )
    assert [cause.split(":")[0] for cause in shortfall.causes] == ["Size"]


def test_shortfall_names_8_bits_when_the_float_file_is_better(report):
    poor = with_choice(with_accuracies(report, large_int8=0.80, large_float32=0.89), "large-int8")
    shortfall = find_shortfall(with_training(poor, images_a_class=10_000))

    assert shortfall.causes == ["8 bits: large-float32 is 9.0 points better; set quantize.mixed_precision: true."]


def test_shortfall_names_steps_data_and_initialization_when_images_are_few(report):
    poor = with_choice(
        with_accuracies(report, **{f"{s}_{v}": 0.6 for s in ("small", "medium", "large") for v in ("int8", "float32")}),
        "large-int8",
    )
    causes = find_shortfall(with_training(poor, images_a_class=60, init="none")).causes

    assert causes == [
        "Steps: the students were trained for about 180 steps of 100 images; set distill.epochs: 334, or a smaller "
        "distill.batch_size.",
        f"Data: class {report.evaluation.task.classes[0]} has 60 training images; add images, or data.unlabeled.",
        "Initialization: the students began at random; set distill.init: features.",
    ]


def test_shortfall_advises_only_what_has_an_effect_on_students_from_the_teacher(report):
    poor = with_choice(
        with_accuracies(report, **{f"{s}_{v}": 0.6 for s in ("small", "medium", "large") for v in ("int8", "float32")}),
        "large-int8",
    )
    trained = with_training(poor, images_a_class=60, init="none", steps=400)
    trained = trained.model_copy(update={"config": {**trained.config, "students": {"from": "teacher"}}})

    steps, data = find_shortfall(trained).causes
    assert steps.endswith("set distill.steps: 2000.")
    assert data.startswith("Data: ")


def test_shortfall_names_the_size_of_the_students_when_nothing_else_limits(report):
    same = {f"{s}_{v}": 0.8 for s in ("small", "medium", "large") for v in ("int8", "float32")}
    poor = with_training(with_choice(with_accuracies(report, **same), "large-int8"), images_a_class=10_000)

    assert find_shortfall(poor).causes == ["What limits it is the size of the students: set larger students.sizes."]


def test_shortfall_is_near_chance_when_the_file_guesses(report):
    classes = len(report.evaluation.task.classes)
    guessing = with_choice(with_accuracies(report, small_int8=1 / classes), "small-int8")

    assert is_near_chance(guessing)
    assert "guessing the most frequent class would reach" in find_shortfall(guessing).finding
    assert "Near chance" in render_report(guessing, {})
    assert not is_near_chance(report)
