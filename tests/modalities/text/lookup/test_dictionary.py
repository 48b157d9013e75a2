# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.modalities.text.lookup.dictionary import Dictionary
from learn2compress.modalities.text.lookup.keys import Features, read_keys
from learn2compress.modalities.text.lookup.vocabulary import read_vocabulary
from learn2compress.modalities.text.words import SEPARATOR
from learn2compress.schemas.errors import TrainingError

WORDS = Dictionary("words", ("oil", "win"), (("oil", "Oil"), ("wins", "Wins")))
KEYS = Dictionary("keys", ("oil", "win", "not win"), (), Features(pairs=True))
TEXTS = [b"Oil wins not win", "🛢 oil".encode(), b""]


@pytest.mark.parametrize("dictionary", [WORDS, KEYS])
def test_from_bytes_reads_what_to_bytes_wrote(dictionary):
    assert Dictionary.from_bytes(dictionary.to_bytes()) == dictionary


def test_from_bytes_refuses_other_content():
    with pytest.raises(TrainingError, match=r"dictionary\.json must be a dictionary"):
        Dictionary.from_bytes(b"{}")


def test_lookup_gives_the_place_of_an_entry():
    assert WORDS.lookup.encode(TEXTS, 4).tolist() == [[1, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert KEYS.lookup.encode(TEXTS, 4).tolist() == [[1, 2, 3, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("dictionary", [WORDS, KEYS])
def test_file_lookup_gives_the_rows_in_the_order_of_the_file(dictionary):
    table = [0, *(dictionary.file_order + 1)]
    found = dictionary.file_lookup.encode(TEXTS, 4)
    assert [[table[i] for i in row] for row in found] == dictionary.lookup.encode(TEXTS, 4).tolist()


def test_file_content_is_read_by_the_lookup_of_the_file():
    assert read_vocabulary(WORDS.file_content(), 3, SEPARATOR, "a").encode(TEXTS, 4).tolist() == (
        WORDS.file_lookup.encode(TEXTS, 4).tolist()
    )
    assert read_keys(KEYS.file_content(), "a").encode(TEXTS, 4).tolist() == KEYS.file_lookup.encode(TEXTS, 4).tolist()


@pytest.mark.parametrize("dictionary", [WORDS, KEYS])
def test_cumulative_bytes_are_those_of_the_written_files(dictionary):
    sizes = [len(dictionary.first(rows).file_content()) for rows in range(len(dictionary.entries) + 1)]
    assert dictionary.cumulative_bytes().tolist() == sizes


def test_keeping_selects_entries_with_their_forms():
    assert WORDS.keeping([1]).forms == (("wins", "Wins"),)
    assert WORDS.first(1).entries == ("oil",)
