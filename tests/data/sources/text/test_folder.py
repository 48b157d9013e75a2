# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.data.sources.formats import data_digest, open_source
from learn2compress.data.sources.unlabeled import open_unlabeled
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import BadFile


def write(root, **texts):
    for name, content in texts.items():
        path = root.joinpath(*name.split("__")).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def read(source):
    return [one for piece in source.pieces for one in piece.read()]


def test_open_text_folder_reads_class_folders(tmp_path):
    write(tmp_path, pos__1="gut 😀", pos__sub__2="fein", neg__1=b"\xff\xfea\x00", notes="not of a class")

    source = open_source(DataConfig(path=str(tmp_path)))
    examples = read(source)

    assert (source.modality, source.classes, source.counts) == ("text", ("neg", "pos"), {None: 3})
    assert examples[0] == BadFile(source="neg/1.txt", reason="it is UTF-16, not UTF-8")
    assert [(e.source, e.label, e.content) for e in examples[1:]] == [
        ("pos/1.txt", 1, "gut 😀"),
        ("pos/sub/2.txt", 1, "fein"),
    ]
    assert source.notes == (f"files in {tmp_path} that are no .txt files of a class, 1: notes.txt",)


def test_open_text_folder_reads_splits(tmp_path):
    write(tmp_path, train__a__1="x", train__b__1="y", dev__a__1="z", test__b__2="w", test__b__3="v")

    source = open_source(DataConfig(path=str(tmp_path)), limit=1)

    assert source.counts == {"validation": 1, "test": 1, "train": 1}
    assert {(e.part, e.label) for e in read(source)} == {("train", 0), ("validation", 0), ("test", 1)}


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        ({"train__a__1": "x", "train__b__1": "x", "test__c__1": "x"}, "the classes of test in .* got 'c'"),
        ({"test__a__1": "x", "b__1": "x"}, "must hold train/ and may hold validation/ and test/"),
        ({"a__1": "x"}, "must hold at least two classes; got a"),
    ],
)
def test_open_text_folder_refuses_other_layouts(tmp_path, texts, match):
    write(tmp_path, **texts)

    with pytest.raises(DataError, match=match):
        open_source(DataConfig(path=str(tmp_path)))


def test_open_unlabeled_reads_texts_of_a_folder_and_of_a_table(tmp_path):
    write(tmp_path / "data", a__1="x", b__1="y")
    write(tmp_path / "more", deep__er__1="one", two="two")
    (tmp_path / "more.csv").write_text("text,label\nthree,b\nfour,\n")
    config = DataConfig(path=str(tmp_path / "data"))

    for name, expected in (("more", ["one", "two"]), ("more.csv", ["three", "four"])):
        source = open_unlabeled(config.model_copy(update={"unlabeled": str(tmp_path / name)}))
        examples = [one for piece in source.pieces for one in piece.read()]

        assert source.count == 2
        assert [(e.part, e.label, e.content) for e in examples] == [("unlabeled", -1, text) for text in expected]


def test_data_digest_covers_unlabeled_texts(tmp_path):
    write(tmp_path / "data", a__1="x", b__1="y")
    (tmp_path / "more.csv").write_text("text\none\n")
    config = DataConfig(path=str(tmp_path / "data"), unlabeled=str(tmp_path / "more.csv"))
    before = data_digest(config)

    (tmp_path / "more.csv").write_text("text\ntwo\n")

    assert data_digest(config) != before
    assert data_digest(config.model_copy(update={"unlabeled": None})) != before
