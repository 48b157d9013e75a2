# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from support.texts.students import CLASSES, LENGTH, small_family, student_file, texts_of

from learn2compress.modalities.text.classifier import open_text_model
from learn2compress.modalities.text.lookup.vocabulary import VOCABULARY_FILE
from learn2compress.modalities.text.words import SEPARATOR
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.metadata import read_metadata
from learn2compress.tflite.parsed_file import parse_file


def test_metadata_describe_tokenizer_vocabulary_and_labels():
    metadata = read_metadata(student_file("words", "small", "uint8"))
    assert (metadata.tokenizer.kind, metadata.tokenizer.pattern) == ("RegexTokenizer", SEPARATOR)
    assert metadata.tokenizer.vocabulary == VOCABULARY_FILE
    assert metadata.min_parser_version == "1.2.1"
    assert list(metadata.labels) == CLASSES


def test_predict_gives_one_text_the_scores_that_it_has_among_others():
    classifier = open_text_model(student_file("keys", "large", "int8"))
    texts = texts_of(small_family("keys")[2], 40)
    together = classifier.predict(texts)
    assert all(np.array_equal(classifier.predict(texts[i : i + 1])[0], together[i]) for i in range(0, 40, 7))


def test_order_outputs_reorders_the_scores():
    classifier = open_text_model(student_file("words", "small", "float32"))
    before = classifier.predict(np.array([b"baa0"], object))
    classifier.order_outputs([2, 0])
    assert np.array_equal(classifier.predict(np.array([b"baa0"], object)), before[:, [2, 0]])


def test_predict_raw_returns_the_tensors_of_one_text():
    classifier = open_text_model(student_file("words", "small", "uint8"))
    entered, left = classifier.predict_raw("Baa0 👍🏽 unknown bab1".encode())
    assert entered.dtype == np.int32
    assert entered[0, :3].tolist() == [1, 0, 2]
    assert entered.shape == (1, LENGTH)
    assert left.dtype == np.uint8


def test_open_text_model_refuses_a_file_that_does_not_tell_its_words():
    parsed = parse_file(student_file("keys", "small", "int8"))
    parsed.edit()
    del parsed.files["keys.bin"]
    with pytest.raises(ModelFileError, match="must have a RegexTokenizer in its metadata, or a keys"):
        open_text_model(parsed.to_bytes())


def test_open_text_model_refuses_a_vocabulary_of_another_model():
    parsed = parse_file(student_file("words", "small", "int8"), file="a.tflite")
    parsed.edit()
    parsed.files[VOCABULARY_FILE] += b"more 5000\n"
    with pytest.raises(ModelFileError, match=r"vocabulary of a\.tflite must have ids below \d+, the rows of its table"):
        open_text_model(parsed)


def test_open_text_model_refuses_a_scaling():
    with pytest.raises(ModelFileError, match="A scaling must be left out for texts"):
        open_text_model(student_file("words", "small", "int8"), scaling=Scaling.named("unit"))


def test_latency_and_memory_are_measured():
    classifier = open_text_model(student_file("words", "small", "int8"))
    assert (classifier.latency(3, 1) > 0).all()
    assert classifier.arena_bytes() > 0
