# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.modalities.text.lookup.vocabulary import (
    VocabularyLookup,
    read_vocabulary,
    splitter,
    write_vocabulary,
)
from learn2compress.modalities.text.words import SEPARATOR
from learn2compress.schemas.errors import ModelFileError

IDS = {"<PAD>": 0, "<UNKNOWN>": 0, "oil": 1, "Oil": 1, "שלום": 2}


def test_encode_looks_words_up_as_typed():
    encoded = VocabularyLookup(IDS).encode(["Oil OIL oil, שלום!".encode(), b"", "👍🏽 oil".encode()], 4)
    assert encoded.tolist() == [[1, 0, 1, 2], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_encode_cuts_off_long_texts_and_keeps_the_place_of_unknown_words():
    assert VocabularyLookup(IDS).encode([b"gas oil oil oil"], 2).tolist() == [[0, 1]]


def test_encode_begins_with_the_start_word_when_the_vocabulary_has_one():
    ids = {"<PAD>": 0, "<START>": 1, "<UNKNOWN>": 2, "oil": 3}
    assert VocabularyLookup(ids).encode([b"oil gas oil", b""], 3).tolist() == [[1, 3, 2], [1, 0, 0]]


def test_read_vocabulary_reads_what_was_written():
    content = write_vocabulary([("oil", 1), ("Oil", 1), ("שלום", 2)])
    assert read_vocabulary(content, 3, SEPARATOR, "a.tflite").ids == IDS


def test_read_vocabulary_numbers_the_lines_of_a_list_of_words():
    assert read_vocabulary(b"<PAD>\n<UNKNOWN>\noil\n", 3, SEPARATOR, "a.tflite").ids["oil"] == 2


def test_read_vocabulary_refuses_ids_beyond_the_table():
    with pytest.raises(ModelFileError, match=r"must have ids below 2, the rows of its table; got 2"):
        read_vocabulary(write_vocabulary([("oil", 2)]), 2, SEPARATOR, "a.tflite")


def test_read_vocabulary_refuses_lines_without_a_number():
    with pytest.raises(ModelFileError, match="must be a word and its id; got 'oil gas' in line 3"):
        read_vocabulary(b"<PAD> 0\n<UNKNOWN> 0\noil gas\n", 2, SEPARATOR, "a.tflite")


def test_lookup_refuses_a_vocabulary_without_unknown():
    with pytest.raises(ModelFileError, match=r"must have <PAD> and <UNKNOWN>; it has no <UNKNOWN>"):
        VocabularyLookup({"<PAD>": 0, "oil": 1})


def test_splitter_reads_the_classes_of_re2_as_ascii():
    assert splitter(r"[^\w\']+")("Don't übel!") == ["Don't", "bel"]
    assert splitter(SEPARATOR)("Don't übel!") == ["Don", "t", "übel"]


def test_splitter_refuses_a_pattern_that_is_none():
    with pytest.raises(ModelFileError, match="must be a regular expression; got"):
        splitter("[")
