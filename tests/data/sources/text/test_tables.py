# SPDX-License-Identifier: Apache-2.0
import json
from collections import Counter

import pyarrow
import pytest
from pyarrow import parquet

from learn2compress.data.raw_examples import RawExample
from learn2compress.data.sources.formats import data_digest, open_source
from learn2compress.data.sources.text import tables
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import BadFile

ROWS = [
    ("Guter Service 😀", "praise"),
    ('Er sagte: "nie, wieder"\nund ging', "complaint"),
    ("شكرا جزيلا", "praise"),
    ("", "complaint"),
]


def write_table(folder, kind, rows=ROWS, names=("text", "label")):
    """Writes rows in a format; returns the path."""
    path = folder / f"data.{kind}"
    dicts = [dict(zip(names, row, strict=True)) for row in rows]
    if kind == "csv":
        lines = [",".join('"' + str(cell).replace('"', '""') + '"' for cell in row) for row in [names, *rows]]
        path.write_text("\n".join(lines), encoding="utf-8-sig")
    elif kind == "tsv":
        path.write_text("\n".join("\t".join(map(str, row)).replace("\n", " ") for row in [names, *rows]), "utf-8")
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(one) for one in dicts) + "\n\n", encoding="utf-8")
    elif kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(dicts), path)
    return path


def read(config, limit=None):
    source = open_source(config, limit)
    return source, [one for piece in source.pieces for one in piece.read()]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_open_tables_reads_every_format_alike(tmp_path, kind):
    config = DataConfig(path=str(write_table(tmp_path, kind)))

    source, examples = read(config)

    assert source.modality == "text"
    assert source.classes == ("complaint", "praise")
    assert source.counts == {None: 4}
    assert source.example_shape == (16,)
    expected = [text.replace("\n", " ") if kind == "tsv" else text for text, _ in ROWS]
    assert [(e.content, e.label, e.part, e.group) for e in examples] == [
        (text, ["complaint", "praise"].index(label), None, None)
        for text, (_, label) in zip(expected, ROWS, strict=True)
    ]
    assert examples[2].source == f"data.{kind}#2"
    assert source.notes == ("texts without a word, such as empty ones, 1: students see nothing of them",)
    assert len(data_digest(config)) == 64


def test_open_tables_takes_splits_and_groups_from_columns(tmp_path):
    rows = [("a b", "x", "train", "u1"), ("c d", "y", "Dev", "u2"), ("e f", "y", "train", "u1"), ("g", "x", "test", "")]
    path = write_table(tmp_path, "csv", rows, ("message", "intent", "split", "group"))

    source, examples = read(DataConfig(path=str(path)))

    assert source.counts == {"train": 2, "validation": 1, "test": 1}
    assert [(e.part, e.group) for e in examples] == [
        ("train", "u1"),
        ("validation", "u2"),
        ("train", "u1"),
        ("test", None),
    ]


def test_open_tables_takes_splits_from_the_names_of_several_files(tmp_path):
    for name, labels in (("train", "ab"), ("dev", "ba"), ("test", "bb")):
        (tmp_path / f"{name}.csv").write_text("sentence,label\n" + "".join(f"text {c},{c}\n" for c in labels))

    source, examples = read(DataConfig(path=str(tmp_path)))

    assert source.counts == {"train": 2, "validation": 2, "test": 2}
    assert Counter(e.part for e in examples) == {"train": 2, "validation": 2, "test": 2}
    assert open_source(DataConfig(path=str(tmp_path / "dev.csv"))).counts == {None: 2}


def test_open_tables_samples_evenly_and_divides_large_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_A_PIECE", 7)
    rows = [(f"text number {i}", "ab"[i % 2], "train" if i % 5 else "test") for i in range(40)]
    path = write_table(tmp_path, "csv", rows, ("text", "label", "split"))

    whole, every = read(DataConfig(path=str(path)))
    source, some = read(DataConfig(path=str(path)), limit=4)

    assert len(whole.pieces) == 6
    assert [e.content for e in every] == [row[0] for row in rows]
    assert source.counts == {"test": 4, "train": 4}
    assert [e.source for e in some if e.part == "test"] == ["data.csv#0", "data.csv#10", "data.csv#20", "data.csv#30"]
    assert sum(e.part == "train" for e in some) == 4


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_open_tables_sorts_numbered_labels_as_numbers(tmp_path, kind):
    path = write_table(tmp_path, kind, [(f"text {i}", i) for i in (10, 0, 2, *range(1, 10))])

    source, examples = read(DataConfig(path=str(path)))

    assert source.classes == tuple(str(i) for i in range(11))
    assert not source.named
    assert [e.label for e in examples[:3]] == [10, 0, 2]


def test_open_tables_gives_numbered_labels_the_names_of_data_classes(tmp_path):
    path = write_table(tmp_path, "csv", [("good", "1.0"), ("bad", "0"), ("fine", "1")])

    source, examples = read(DataConfig(path=str(path), classes=["negative", "positive"]))

    assert source.classes == ("negative", "positive")
    assert [e.label for e in examples] == [1, 0, 1]


def test_open_tables_reads_class_names_of_hugging_face_files(tmp_path):
    table = pyarrow.Table.from_pylist([{"text": "x", "label": 1}, {"text": "y", "label": 0}])
    features = {"info": {"features": {"label": {"names": ["ham", "spam"], "_type": "ClassLabel"}}}}
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "x.parquet")

    assert open_source(DataConfig(path=str(tmp_path / "x.parquet"))).classes == ("ham", "spam")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"text,label\nok,a\nf\xfcr,b\nfine,b\n", r"it is not UTF-8: byte 0xfc at position 1"),
        (b"text,label\nok,a\none, two,b\nfine,b\n", r"it has 3 fields, where the header has 2"),
        (b"text,label\nok,a\nthree,\nfine,b\n", r"it has no label; texts without labels belong in data.unlabeled"),
    ],
)
def test_open_tables_names_rows_that_cannot_be_used(tmp_path, content, reason):
    (tmp_path / "x.csv").write_bytes(content)

    source, examples = read(DataConfig(path=str(tmp_path / "x.csv")))

    assert source.counts == {None: 2}
    assert [e.content for e in examples if isinstance(e, RawExample)] == ["ok", "fine"]
    assert [e for e in examples if isinstance(e, BadFile)] == [BadFile(source="x.csv#1", reason=reason)]


def test_open_tables_names_json_lines_that_cannot_be_used(tmp_path):
    lines = ['{"text": "a", "label": "x"}', '{"text": "b", "label": "y"}', '{"text": null, "label": "y"}', "[1]",
             '{"text": "\\ud83d", "label": "y"}', "{", '{"text": 3, "label": "y"}']  # fmt: skip
    (tmp_path / "x.jsonl").write_text("\n".join(lines))

    _, examples = read(DataConfig(path=str(tmp_path / "x.jsonl")))

    assert [e.reason.split(":")[0] for e in examples if isinstance(e, BadFile)] == [
        "it has no text", "it is a JSON list, not an object", "it is not UTF-8", "it is no JSON",
        "its text is of type int",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "options", "match"),
    [
        ("title,label\na,b\n", {"modality": "text"}, r"must have a column of texts; got the columns 'title', 'label'"),
        ("text,kind\na,b\n", {}, r"must have a column of labels; got .*Set data.label_column"),
        ("text,label\na,b\n", {"text_column": "txt"}, r"data.text_column must be a column of .*; got 'txt', where"),
        ("text,label\na,b\n", {}, r"must hold at least two classes; got b"),
        ("", {"modality": "text"}, "must hold rows with named columns; got an empty file"),
        ("text,label\na,1\nb,2\n", {}, "labels in .* must begin at 0; got none below 1.*data.label_offset: 1"),
        ("text,label,split\na,b,train\nc,d,later\n", {}, "the split in row 1 of .* must be one of train.*'later'"),
        ("text,label,split\na,b,train\nc,d,\n", {}, "must have a split, and some of them train, or none must"),
        ("text,label,split\na,b,train\nc,d,train\ne,f,test\n", {}, "classes of the test texts .* got 'f'"),
        ("text,label,split,group\na,b,train,g\nc,d,test,g\n", {}, r"a group must be in one split; got 'g' in train"),
        ("text,label\na,0\nb,7\n", {"classes": ["x", "y"]}, "data.classes must name the 8 numbered classes"),
    ],
)
def test_open_tables_refuses_contradictory_tables(tmp_path, content, options, match):
    (tmp_path / "x.csv").write_text(content)

    with pytest.raises(DataError, match=match):
        open_source(DataConfig(path=str(tmp_path / "x.csv"), **options))


def test_open_tables_refuses_utf_16(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\na,b\nc,d\n", encoding="utf-16")

    with pytest.raises(DataError, match=r"must be in UTF-8; got UTF-16\. Save it as UTF-8"):
        open_source(DataConfig(path=str(tmp_path / "x.csv"), modality="text"))


def test_open_tables_refuses_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR0")

    with pytest.raises(DataError, match=r"must be a Parquet file; got: "):
        open_source(DataConfig(path=str(tmp_path / "x.parquet")))
