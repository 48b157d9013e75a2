# SPDX-License-Identifier: Apache-2.0
"""Edits in memory give the same bytes as edits with writing and parsing in between."""

import numpy as np
import pytest
from support.tflite_files import count_calls

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.associated_files import append_files
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.metadata import read_metadata
from learn2compress.tflite.model_file import read_model
from learn2compress.tflite.parsed_file import parse_file
from learn2compress.tflite.transformations.compaction import compact
from learn2compress.tflite.transformations.end_names import name_ends
from learn2compress.tflite.transformations.metadata import write_metadata

EVERY_VARIANT = ["float32", "float16", "dynamic", "int8", "uint8", "int8-float-ends"]
STEPS = (
    lambda parsed: name_ends(parsed, "picture", "scores"),
    compact,
    lambda parsed: write_metadata(parsed, name="Four", description="Tells four.", labels=list("abcd"), mean=[127.5]),
)


@pytest.mark.parametrize("variant", EVERY_VARIANT)
def test_transformations_in_memory_give_the_same_bytes_as_with_writing_in_between(tflite_models, variant):
    data = append_files(tflite_models[variant], {"readme.txt": b"hello"})
    at_once, one_by_one = parse_file(data), data
    for step in STEPS:
        at_once = step(at_once)
        one_by_one = step(parse_file(one_by_one)).to_bytes()

    assert at_once.to_bytes() == one_by_one != data
    assert at_once.facts == read_model(one_by_one)
    assert read_metadata(at_once) == read_metadata(one_by_one)


def test_a_parsed_file_is_described_run_and_edited_with_one_parse_and_one_pack(tflite_models, pixels, monkeypatch):
    calls = count_calls(monkeypatch)
    parsed = parse_file(tflite_models["int8"])
    for step in STEPS:
        parsed = step(parsed)
    scores = open_model(parsed).predict(pixels)

    assert parsed.facts.op_counts["CONV_2D"] == 2
    assert read_metadata(parsed).labels == ("a", "b", "c", "d")
    assert calls == {"unpack": 1, "pack": 1}
    assert np.array_equal(scores, open_model(parsed.to_bytes()).predict(pixels))


def test_to_bytes_returns_the_source_of_an_unedited_file(tflite_models, monkeypatch):
    data, calls = tflite_models["float32"], count_calls(monkeypatch)

    assert parse_file(data).to_bytes() == data
    assert calls["pack"] == 0


def test_edit_resets_bytes_and_facts(tflite_models):
    parsed = parse_file(tflite_models["int8"])
    before = parsed.to_bytes(), parsed.facts
    parsed.edit().subgraphs[0].tensors[0].name = b"renamed"

    assert parsed.facts.tensors[0].name == "renamed" != before[1].tensors[0].name
    assert read_model(parsed.to_bytes()) == parsed.facts
    assert parsed.to_bytes() != before[0]


def test_facts_refuse_inconsistent_objects(tflite_models):
    parsed = parse_file(tflite_models["int8"], file="student.tflite")
    parsed.edit().subgraphs[0].tensors[0].buffer = 999

    with pytest.raises(ModelFileError, match=r"got student\.tflite, and its tables are inconsistent: .* no buffer"):
        _ = parsed.facts


def test_parse_file_returns_a_parsed_file_unchanged(tflite_models):
    parsed = parse_file(tflite_models["int8"])

    assert parse_file(parsed, file="another name") is parsed


def test_parse_file_names_a_truncated_file(tflite_models):
    with pytest.raises(ModelFileError, match=r"got cut\.tflite, and it is cut short"):
        parse_file(tflite_models["int8"][:1000], file="cut.tflite")
