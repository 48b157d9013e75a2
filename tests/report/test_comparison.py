# SPDX-License-Identifier: Apache-2.0
"""The page that compares runs says what can be compared, and what differs."""

import numpy as np
import pytest

from learn2compress.evaluation.predictions import ModelPredictions, SplitPredictions, write_predictions
from learn2compress.report.comparison import (
    Run,
    compare_chosen,
    list_differences,
    list_doubts,
    read_correct,
    render_comparison,
)


@pytest.fixture
def report(make_report):
    return make_report(images=200)[0]


def changed(report, **settings):
    config = {**report.config, "distill": {**report.config.get("distill", {}), **settings}}
    return report.model_copy(update={"config": config})


def correct(wrong: int) -> dict[int, bool]:
    return {image: image >= wrong for image in range(100)}


def test_comparison_tests_the_chosen_files_on_the_images_in_common(report):
    alike = compare_chosen(Run("a", report, correct(10)), Run("b", report, correct(11)))
    other = compare_chosen(Run("a", report, correct(0)), Run("b", report, correct(30)))

    assert "On the 100 images in common the difference is not significant (McNemar's test, p = 0.5)." in alike
    assert "the difference is significant (McNemar's test, p = " in other
    assert alike.startswith("b against a: +0.0 points on the test images, ")


def test_comparison_says_when_no_images_are_in_common(report):
    others = {image + 100: True for image in range(100)}

    assert "no test images in common" in compare_chosen(Run("a", report, correct(10)), Run("b", report, others))
    assert "no test images in common" in compare_chosen(Run("a", report), Run("b", report))


def test_comparison_doubts_figures_of_other_data_and_teachers(report):
    other = report.model_copy(
        update={
            "data": {**report.data, "digest": "f" * 64},
            "teacher": report.teacher.model_copy(update={"sha256": "e" * 64}),
        }
    )

    assert list_doubts([Run("a", report), Run("b", report)]) == []
    assert [text.split(",")[0] for text in list_doubts([Run("a", report), Run("b", other)])] == [
        "The data differ",
        "The teachers differ",
    ]


def test_comparison_lists_the_settings_that_differ(report):
    runs = [Run("a", changed(report, epochs=3)), Run("b", changed(report, epochs=9))]

    assert [tuple(one) for one in list_differences(runs)] == [("distill.epochs", ("3", "9"))]


def test_read_correct_reads_the_predictions_of_the_test_images(tmp_path):
    predictions = {"a": ModelPredictions(np.array([0, 1, 1]), np.ones(3))}
    split = SplitPredictions(np.array([7, 8, 9]), np.array([0, 1, 0]), None, predictions)
    write_predictions(tmp_path / "predictions.npz", {"test": split})

    assert read_correct(tmp_path, "a") == {7: True, 8: True, 9: False}
    assert read_correct(tmp_path, "b") is None
    assert read_correct(tmp_path / "none", "a") is None


def test_comparison_page_shows_every_file_and_escapes_names(report):
    page = render_comparison([Run("<b>a</b>", report, correct(3)), Run("b", changed(report, epochs=9), correct(5))])

    assert "<b>a</b>" not in page
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    for candidate in report.evaluation.candidates:
        assert f'<th scope="row">{candidate.name}</th>' in page
    measured = [c for c in report.evaluation.candidates if not c.baseline and "test" in c.figures]
    assert page.count("<circle") == 2 * len(measured) + 2  # the chosen ones are ringed
    assert "distill.epochs" in page
    assert "<script" not in page
