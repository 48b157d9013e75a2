# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.compression.dictionary.candidates import collect
from learn2compress.compression.dictionary.importance import drop_one_effect, mutual_information, naive_bayes, ranked
from learn2compress.modalities.text.lookup.keys import Features

TEXTS = [b"Oil up", b"oil down oil", b"goal up", b"goal down", b"goal"]
SURE = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]], float)


def test_collect_counts_a_feature_once_a_text_and_keeps_its_usual_forms():
    found = collect(TEXTS, "words", Features())
    assert dict(zip(found.entries, found.counts.tolist(), strict=True)) == {"oil": 2, "up": 2, "down": 2, "goal": 3}
    assert dict(zip(found.entries, found.forms, strict=True))["oil"] == ("oil",)


def test_collect_leaves_rare_pairs_out_but_not_rare_words():
    found = collect([b"a b", b"a b", b"b c"], "keys", Features(pairs=True), least=2)
    assert found.entries == ("a", "a b", "b", "c")


def test_mutual_information_ranks_words_that_tell_the_class_first():
    found = collect(TEXTS, "words", Features())
    order = [found.entries[i] for i in ranked(mutual_information(found, SURE))]
    assert order[:2] == ["goal", "oil"]


def test_mutual_information_equals_the_definition_without_smoothing_in_the_limit():
    texts = TEXTS * 2000
    found = collect(texts, "words", Features())
    information = dict(zip(found.entries, mutual_information(found, np.tile(SURE, (2000, 1))), strict=True))
    entropy = -(0.4 * np.log(0.4) + 0.6 * np.log(0.6))
    assert information["goal"] == pytest.approx(entropy, rel=1e-2)


def test_mutual_information_uses_the_teachers_doubt():
    found = collect(TEXTS, "words", Features())
    doubtful = 0.5 + 0.1 * (SURE - 0.5)
    assert mutual_information(found, doubtful).max() < 0.1 * mutual_information(found, SURE).max()


def test_drop_one_effect_weights_with_frequency_and_ignores_what_all_classes_share():
    effect = drop_one_effect(np.array([[1.0, -1.0], [1.0, -1.0], [5.0, 5.0]]), np.array([3, 1, 9]))
    assert effect.tolist() == [6.0, 2.0, 0.0]


def test_naive_bayes_is_the_deviation_of_the_smoothed_log_probability_from_its_mean():
    found = collect(TEXTS, "words", Features())
    by_word = dict(zip(found.entries, naive_bayes(found, SURE), strict=True))
    # Of class 0 two texts have oil, one up, one down; of class 1 three have goal, one up, one down; one more of each.
    log = np.log([3 / 8, 1 / 9])
    assert by_word["oil"] == pytest.approx(log - log.mean())
    assert by_word["goal"][1] > by_word["up"][1]
