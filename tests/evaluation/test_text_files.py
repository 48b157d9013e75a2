# SPDX-License-Identifier: Apache-2.0
"""Tests the evaluation of text classifiers on labelled texts, without a pipeline."""

import csv
import json

import pytest
from support.texts.students import CLASSES, small_family, student_file, texts_of
from typer.testing import CliRunner

from learn2compress.cli.main import app
from learn2compress.modalities.text.classifier import open_text_model


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Returns a table whose labels are the classes that the large student of `words` gives, and the number of texts."""
    texts = texts_of(small_family("words")[2], 60)
    classes = open_text_model(student_file("words", "large", "float32")).predict(texts).argmax(axis=1)
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    rows = {(text.decode(), CLASSES[found]) for text, found in zip(texts, classes, strict=True)}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(sorted(rows))
    assert len({label for _, label in rows}) == len(CLASSES)
    return path, len(rows)


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_evaluate_measures_a_text_file_by_its_own_vocabulary(tmp_path, labelled):
    path, count = labelled
    file = tmp_path / "large.tflite"
    file.write_bytes(student_file("words", "large", "float32"))
    result = run("evaluate", str(file), "--data", str(path), "--runs", "2", "--json", "--classes", ",".join(CLASSES))
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)
    assert (record["accuracy"], record["images"]) == (1.0, count)
    assert any("words of vocab.txt" in line for line in record["read_as"])


def test_evaluate_measures_the_integer_file_like_the_float_file(tmp_path, labelled):
    file = tmp_path / "large.tflite"
    file.write_bytes(student_file("words", "large", "uint8"))
    result = run("evaluate", str(file), "--data", str(labelled[0]), "--runs", "2", "--json")
    (record,) = json.loads(result.stdout)
    assert record["accuracy"] > 0.9
    assert record["full_int8"]


def test_evaluate_refuses_a_file_without_words(tmp_path, labelled, tflite_models):
    file = tmp_path / "image.tflite"
    file.write_bytes(tflite_models["int8"])
    result = run("evaluate", str(file), "--data", str(labelled[0]))
    assert "A text classifier must take ids [1, length]" in result.output


def test_inspect_shows_tokenizer_and_dictionary(tmp_path):
    file = tmp_path / "small.tflite"
    file.write_bytes(student_file("words", "small", "uint8"))
    shown = run("inspect", str(file)).stdout
    assert "RegexTokenizer, split by" in shown
    assert "vocab.txt" in shown
    assert all(f"words for {label}: " in shown for label in CLASSES)
    described = json.loads(run("inspect", str(file), "--json").stdout)
    assert described["metadata"]["tokenizer"]["words"] > 16
    assert described["full_int8"]["holds"]
