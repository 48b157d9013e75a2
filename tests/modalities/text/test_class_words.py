# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from support.texts.students import CLASSES, student_file

from learn2compress.modalities.text.class_words import class_words
from learn2compress.modalities.text.classifier import open_text_model
from learn2compress.tflite.parsed_file import parse_file


@pytest.mark.parametrize("variant", ["int8", "float32"])
def test_class_words_lists_the_words_that_give_a_class_the_highest_score(variant):
    data = student_file("words", "small", variant)
    ids = open_text_model(data).lookup.ids
    found = class_words(parse_file(data), ids, 3)
    assert [len(words) for words in found] == [3] * len(CLASSES)
    scorer = open_text_model(student_file("words", "small", "float32"))
    words = np.array([word.encode() for word in ids if not word.startswith("<")], object)
    logits = np.log(scorer.predict(words))
    for label, strongest in enumerate(found):
        of = {word.decode(): score[label] - score.mean() for word, score in zip(words, logits, strict=True)}
        assert of[strongest[0]] >= np.quantile(list(of.values()), 0.99)


def test_class_words_returns_none_when_the_file_has_no_table(tflite_models):
    assert class_words(parse_file(tflite_models["int8"]), {"a": 1}) is None
