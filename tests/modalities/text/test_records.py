# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.modalities.text.records import MOST_BYTES, TextRecords, check_text, decode_file

RECORDS = TextRecords()


def test_fit_normalizes_and_keeps_everything_else():
    assert RECORDS.fit("Cafe\u0301 ÄRGER\r\n 😀 ") == "Café ÄRGER\r\n 😀 ".encode()


def test_decode_makes_a_batch_of_bytes():
    batch = RECORDS.decode([b"ab", b"cd", b""])

    assert (batch.dtype, batch.shape) == (object, (3,))
    assert batch.tolist() == [b"ab", b"cd", b""]
    assert RECORDS.decode([]).shape == (0,)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("It broke, twice!", "it BROKE twice", True),
        ("straße", "STRASSE", True),
        ("ﬁne", "fine", True),
        ("it broke", "broke it", False),
        ("😀", "😡", False),
        ("", "😀", False),
    ],
)
def test_split_key_is_equal_for_equal_words(one, other, equal):
    keys = [RECORDS.split_key(text) for text in (one, other)]

    assert (keys[0] == keys[1]) == equal
    assert RECORDS.digest(one) == RECORDS.digest(RECORDS.fit(one)) != RECORDS.digest(other)


def test_statistics_count_words_and_characters():
    assert RECORDS.statistics("", "Zwei Wörter 😀".encode()) == {"words": 2, "characters": 13}


def test_read_file_decodes_a_file(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfna\xc3\xafve")

    assert RECORDS.read_file(tmp_path / "x.txt") == "naïve"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"caf\xe9", "it is not UTF-8: byte 0xe9 at position 3"),
        (b"\xff\xfea\x00", "it is UTF-16, not UTF-8"),
        (b"x" * (MOST_BYTES + 1), "it has 1,048,577 bytes, more than 1,048,576"),
    ],
)
def test_decode_file_refuses_other_content(content, match):
    with pytest.raises(ValueError, match=match):
        decode_file(content)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "it has no text"),
        (3, "its text is of type int"),
        ("a\udcfcb", "it is not UTF-8: byte 0xfc at position 1"),
        ("\ud83d", r"it is not UTF-8: half a character, \\ud83d, at position 0"),
        ("ä" * MOST_BYTES, "it has 2,097,152 bytes"),
    ],
)
def test_check_text_refuses_what_is_no_text(text, match):
    with pytest.raises(ValueError, match=match):
        check_text(text)


def test_decode_tensor_is_the_tensor_itself():
    encoded = np.array([b"x"], object)

    assert RECORDS.decode_tensor(encoded) is encoded
