# SPDX-License-Identifier: Apache-2.0
"""A record survives reading and writing, with what it does not know, and shows when it was changed."""

import json
from pathlib import Path

import pytest

from learn2compress.lineage.records.statement import build_statement
from learn2compress.schemas.digests import digest_of_tree, tree_sha256
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.provenance import (
    TREE,
    FileDigest,
    Input,
    Output,
    Statement,
    is_sealed,
    parse_statement,
    timestamp,
    validate_statement,
)

FOLDER = Output(
    "models", "Quantizer/models/7", "T", "a" * 64,
    {"a/b.tflite": FileDigest("b" * 64, 3), "c": FileDigest("c" * 64, 0)}, properties={"accuracy": 5.0, "count": 5},
)  # fmt: skip
SINGLE = Output("blessing", "/elsewhere/file", "U", "d" * 64, {"": FileDigest("d" * 64, 9)}, index=1)
READ = Input("examples", "Gen/examples/1", "E", "e" * 64, record="Gen/provenance/1.intoto.json", record_sha256="f" * 64)


def statement(**changes: object) -> Statement:
    fields = {
        "path": "Quantizer/provenance/7.intoto.json", "outputs": [FOLDER, SINGLE], "inputs": [READ],
        "parameters": {"epochs": 4, "rate": 4.0, "name": "ü"},
        "internal": {"node": "Quantizer", "run": "r", "pipeline": "p"},
        "packages": {"numpy": "2.0"}, "builder": "urn:learn2compress:local", "invocation": "7",
        "started": timestamp(0), "finished": timestamp(1500), "cached": True,
    }  # fmt: skip
    return build_statement(**(fields | changes))


def test_record_reads_back_what_was_written() -> None:
    raw = statement().to_bytes()

    read = parse_statement(raw, "x")

    assert read.outputs == [FOLDER, SINGLE]
    assert read.inputs == [READ]
    assert read.parameters == {"epochs": 4, "rate": 4.0, "name": "ü"}
    assert isinstance(read.parameters["rate"], float)
    assert isinstance(read.parameters["epochs"], int)
    assert (read.node, read.run, read.pipeline, read.cached) == ("Quantizer", "r", "p", True)
    assert (read.started, read.finished) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:01.500Z")
    assert read.packages == {"numpy": "2.0"}
    assert read.to_bytes() == raw


def test_record_is_a_statement_that_names_every_file_and_folder() -> None:
    tree = json.loads(statement().to_bytes())

    assert tree["_type"] == "https://in-toto.io/Statement/v1"
    assert tree["predicateType"] == "https://slsa.dev/provenance/v1"
    assert {one["name"]: one["digest"] for one in tree["subject"]} == {
        "models": {TREE: "a" * 64},
        "models/a/b.tflite": {"sha256": "b" * 64},
        "models/c": {"sha256": "c" * 64},
        "blessing[1]": {"sha256": "d" * 64},
    }
    [dependency] = tree["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert dependency["digest"] == {TREE: "e" * 64}
    assert dependency["annotations"]["record"] == "Gen/provenance/1.intoto.json"


def test_parse_statement_keeps_unknown_fields() -> None:
    tree = json.loads(statement().to_bytes())
    tree["theirs"] = [1]
    tree["predicate"]["runDetails"]["theirs"] = {"a": 2.0}
    tree["subject"][0]["downloadLocation"] = "https://example.org/x"

    again = json.loads(parse_statement(json.dumps(tree).encode(), "x").to_bytes())

    assert again["theirs"] == [1]
    assert again["predicate"]["runDetails"]["theirs"] == {"a": 2.0}
    assert again["subject"][0]["downloadLocation"] == "https://example.org/x"


def test_is_sealed_is_false_after_any_changed_byte() -> None:
    raw = statement().to_bytes()
    assert is_sealed(raw, parse_statement(raw, "x"))

    unnoticed = []
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        try:
            if is_sealed(changed, parse_statement(changed, "x")):
                unnoticed.append(place)
        except LineageError:
            continue

    assert unnoticed == []


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "its JSON"),
        (b"[]", "its JSON"),
        (b'{"_type": "https://in-toto.io/Statement/v1"}', "subject: Field required"),
        (b'{"_type": "other"}', "_type: Input should be"),
    ],
)
def test_parse_statement_names_a_broken_record_and_the_fault(raw: bytes, reason: str) -> None:
    with pytest.raises(LineageError, match=rf"^a/b\.json must be a provenance record; {reason}"):
        parse_statement(raw, "a/b.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("index", "x"),
        ("index", None),
        ("index", {}),
        ("bytes", 2**70),
        ("properties", [[]]),
        ("output", 3),
        ("type", None),
    ],
)
def test_reading_refuses_an_odd_value_in_one_line(key: str, value: object) -> None:
    tree = json.loads(statement().to_bytes())
    tree["subject"][0]["annotations"][key] = value

    with pytest.raises(LineageError, match=rf"^x must be a provenance record; .*{key} must be \w+; got .*$"):
        parse_statement(json.dumps(tree).encode(), "x")


@pytest.mark.parametrize("value", [{}, ["x"], 12])
def test_reading_refuses_a_commit_that_is_no_text(value: object) -> None:
    tree = json.loads(statement().to_bytes())
    tree["predicate"]["buildDefinition"]["internalParameters"]["code"] = {"commit": value}

    with pytest.raises(LineageError, match=r"commit of the code must be text; got "):
        parse_statement(json.dumps(tree).encode(), "x")


def test_reading_refuses_a_seed_that_is_no_number() -> None:
    tree = json.loads(statement().to_bytes())
    tree["predicate"]["buildDefinition"]["internalParameters"]["seed"] = "../etc"

    with pytest.raises(LineageError, match=r"seed must be int; got '\.\./etc'"):
        parse_statement(json.dumps(tree).encode(), "x")


def test_validate_statement_accepts_our_records() -> None:
    validate_statement(statement())


def test_validate_statement_refuses_a_subject_without_digest() -> None:
    tree = json.loads(statement().to_bytes())
    del tree["subject"][1]["digest"]

    with pytest.raises(LineageError, match=r"in-toto statement.*digest required"):
        validate_statement(parse_statement(json.dumps(tree).encode(), "x"))


def test_validate_statement_refuses_an_invalid_time() -> None:
    with pytest.raises(LineageError, match="must be an in-toto statement"):
        validate_statement(statement(started="yesterday"))


def test_digest_of_tree_equals_that_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "ü").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"")

    digest = digest_of_tree(
        {
            "a": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "b/ü": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
        }
    )

    assert digest == tree_sha256(tmp_path)
