# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import numpy as np
import pytest

from learn2compress.evaluation import metrics


def test_label_rank_counts_better_scores():
    scores = [[0.1, 0.7, 0.2], [0.1, 0.7, 0.2], [0.1, 0.7, 0.2]]
    assert metrics.label_rank(scores, [1, 2, 0]).tolist() == [0, 1, 2]


def test_label_rank_agrees_with_argmax_when_scores_are_equal():
    scores = np.array([[5, 5, 1], [5, 5, 1], [0, 0, 0]], np.float32)
    assert metrics.label_rank(scores, [0, 1, 2]).tolist() == [0, 1, 2]
    labels = np.argmax(scores, axis=1)
    assert (metrics.label_rank(scores, labels) == 0).all()


def test_probabilities_keeps_probabilities_whose_rounded_sum_is_not_one():
    scores = np.array([[0.0, 0.996], [0.5, 0.508]], np.float32)
    assert np.array_equal(metrics.probabilities(scores), scores)


def test_probabilities_normalizes_logits():
    result = metrics.probabilities([[0.0, np.log(3.0)], [1000.0, 1000.0]])
    assert result == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5]]))


def test_confusion_matrix_counts_by_label_then_prediction():
    matrix = metrics.confusion_matrix([0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 2, 2], 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]


def test_class_figures_by_hand():
    # Class 0: predicted once, rightly; two images, one found. Class 1: predicted twice, once rightly; found.
    first, second, absent = metrics.class_figures([[1, 1, 0], [0, 1, 0], [0, 0, 0]])
    assert (first.precision, first.recall, first.f1, first.images) == (1.0, 0.5, pytest.approx(2 / 3), 2)
    assert (second.precision, second.recall, second.f1, second.images) == (0.5, 1.0, pytest.approx(2 / 3), 1)
    assert (absent.precision, absent.recall, absent.f1, absent.images) == (0.0, 0.0, 0.0, 0)


def test_wilson_interval_of_one_half_in_ten():
    # With z = 2: centre (0.5 + 0.2) / 1.4 = 0.5; reach 2 / 1.4 · sqrt(0.025 + 0.01) = 0.267261.
    interval = metrics.wilson_interval(5, 10, z=2.0)
    assert interval.low == pytest.approx(0.232739, abs=1e-6)
    assert interval.high == pytest.approx(0.767261, abs=1e-6)


def test_wilson_interval_matches_published_value():
    # 81 of 263: Newcombe, 1998, table I, method 3.
    interval = metrics.wilson_interval(81, 263)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.1611), (20, 0.8389, 1.0)])
def test_wilson_interval_stays_inside_when_at_an_end(successes, low, high):
    interval = metrics.wilson_interval(successes, 20)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_wilson_interval_is_0_to_1_when_there_are_no_images():
    assert metrics.wilson_interval(0, 0).model_dump() == {"low": 0.0, "high": 1.0}


def test_mcnemar_p_by_hand():
    # n = 4, b = 1: 2·P(X = 0) + P(X = 1) = 2/16 + 4/16.
    assert metrics.mcnemar_p(1, 3) == pytest.approx(6 / 16)
    assert metrics.mcnemar_p(3, 1) == pytest.approx(6 / 16)
    assert metrics.mcnemar_p(0, 5) == pytest.approx(1 / 32)


def test_mcnemar_p_is_one_when_no_images_differ():
    assert metrics.mcnemar_p(0, 0) == 1.0
    assert metrics.mcnemar_p(7, 7) == pytest.approx(1.0)


def test_mcnemar_p_of_many_images_is_close_to_the_normal_approximation():
    # z = 100 / sqrt(10,000) = 1; the mid-p is the approximation without continuity correction: 0.3173.
    assert metrics.mcnemar_p(4950, 5050) == pytest.approx(0.3173, abs=1e-3)


def test_mcnemar_of_counts_the_images_on_which_one_is_right():
    assert metrics.mcnemar_of([1, 1, 1, 0, 1, 0], [0, 0, 0, 1, 1, 0]) == pytest.approx(6 / 16)


def test_calibration_error_by_hand():
    # (0, .5] holds .4, wrong: gap .4. (.5, 1] holds .8 and 1, one right: gap .9 - .5. Weights 1/3 and 2/3.
    assert metrics.calibration_error([0.4, 0.8, 1.0], [False, True, False], bins=2) == pytest.approx(0.4)


def test_calibration_error_counts_a_border_in_the_lower_bin():
    # Both in (0, .5]: gap |1 - .75| over 2 images; in separate bins it would be (.25 + .5) / 2.
    assert metrics.calibration_error([0.25, 0.5], [True, False], bins=2) == pytest.approx(0.125)
    assert metrics.calibration_error([0.0], [True], bins=2) == pytest.approx(1.0)


def test_agreement_is_the_fraction_of_equal_predictions():
    assert metrics.agreement([0, 1, 2, 2], [0, 1, 1, 2]) == 0.75


def test_flips_separates_negative_from_positive_flips():
    negative, positive = metrics.flips(labels=[0, 0, 1, 1, 2], teacher=[0, 0, 0, 1, 1], student=[0, 1, 1, 1, 0])
    assert (negative.tolist(), positive.tolist()) == ([1], [2])


def test_metrics_imports_no_tensorflow():
    code = (
        "import sys, learn2compress.evaluation.metrics; "
        "sys.exit(any(name.split('.')[0] in {'tensorflow', 'tfx', 'apache_beam'} for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
