# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learn2compress.modalities.text.lookup.keys import Features, KeyLookup, fnv1a, keys_of, mix, read_keys, write_keys
from learn2compress.modalities.text.words import lower_case, split_words
from learn2compress.schemas.errors import ModelFileError

ALL = Features(pairs=True, prefix=3)


def lookup_of(entries: list[str], features: Features = ALL) -> KeyLookup:
    return KeyLookup(keys_of(entries), features)


def test_fnv1a_equals_published_values():
    assert fnv1a("") == 0x811C9DC5
    assert fnv1a("a") == 0xE40C292C
    assert fnv1a("foobar") == 0xBF9CF968


def test_mix_is_the_finalizer_of_murmurhash3():
    state = 0xDEADBEEF
    expected = state ^ state >> 16
    expected = expected * 0x85EBCA6B & 0xFFFFFFFF
    expected ^= expected >> 13
    expected = expected * 0xC2B2AE35 & 0xFFFFFFFF
    expected = (expected ^ expected >> 16) & 0xFFFFFF
    assert mix(np.array([state], np.uint32)).tolist() == [expected]


def test_features_lists_words_prefixes_and_pairs_in_order():
    assert ALL.of_words(["not", "good"]) == ["not", "good", "goo*", "not good"]
    assert Features().of_words(["not", "good"]) == ["not", "good"]


@given(st.lists(st.text("abĀ 😀שß'", max_size=12), max_size=4))
def test_encode_finds_what_features_list(texts):
    entries = sorted({f for text in texts[:2] for f in ALL.of_words([lower_case(w) for w in split_words(text)])})
    known = {entry: index + 1 for index, entry in enumerate(entries)}
    encoded = lookup_of(entries).encode([text.encode() for text in texts], 8)
    for row, text in zip(encoded, texts, strict=True):
        words = [lower_case(word) for word in split_words(text)]
        expected = [known[feature] for feature in ALL.of_words(words) if feature in known][:8]
        assert row.tolist() == expected + [0] * (8 - len(expected))


def test_encode_does_not_pair_the_words_of_different_texts():
    assert lookup_of(["not good"]).encode([b"not", b"good"], 2).tolist() == [[0, 0], [0, 0]]


def test_encode_ignores_case_and_cuts_off_long_texts():
    assert lookup_of(["oil"]).encode([b"Oil OIL oil gas"], 2).tolist() == [[1, 1]]


def test_encode_returns_zeros_when_the_dictionary_is_empty():
    assert KeyLookup(np.zeros(0, np.uint32), ALL).encode([b"oil"], 2).tolist() == [[0, 0]]


def test_read_keys_reads_what_was_written_in_the_order_of_the_keys():
    entries = ["oil", "gas", "not good", "goo*"]
    content = write_keys(np.sort(keys_of(entries)), ALL)
    assert len(content) == 8 + 3 * len(entries)
    found = read_keys(content, "a.tflite").encode([b"gas goods not good"], 8)[0]
    by_key = [entries[i] for i in np.argsort(keys_of(entries))]
    assert [by_key[i - 1] for i in found if i] == ["gas", "goo*", "goo*", "not good"]


@pytest.mark.parametrize("content", [b"", b"L2CK\x02\0\0\0", b"L2CK\x01\0\0\0ab"])
def test_read_keys_refuses_other_content(content):
    with pytest.raises(ModelFileError, match=r"keys\.bin in a\.tflite must be a list of 24-bit keys"):
        read_keys(content, "a.tflite")


def test_read_keys_refuses_keys_that_are_not_in_order():
    with pytest.raises(ModelFileError, match="must be in ascending order"):
        read_keys(write_keys(np.array([5, 3], np.uint32), ALL), "a.tflite")
