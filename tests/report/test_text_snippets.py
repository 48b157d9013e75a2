# SPDX-License-Identifier: Apache-2.0
"""Tests the golden vectors and the programs of a text classifier's bundle; the Python program is run."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support.texts.students import CLASSES, LENGTH, small_family, student_file, texts_of

from learn2compress.data.stored_examples import StoredExample
from learn2compress.modalities import modality_of
from learn2compress.modalities.text.snippets import HARD_TEXTS
from learn2compress.report.bundle import _snippets
from learn2compress.report.golden import golden_files
from learn2compress.schemas.manifests import Task
from learn2compress.tflite.parsed_file import parse_file

TASK = Task(modality="text", input_shape=(LENGTH,), classes=CLASSES)


def bundle_of(carrier: str, variant: str) -> dict[str, bytes]:
    parsed = parse_file(student_file(carrier, "small", variant), file="small.tflite")
    classifier = modality_of(TASK).device_format.open_classifier(parsed)
    texts = texts_of(small_family(carrier)[2], 6)
    examples = [
        StoredExample(f"{index:016x}", "", 0, text, modality_of(TASK).records(TASK))
        for index, text in enumerate(texts[:3])
    ]
    return {
        "small.tflite": parsed.to_bytes(),
        **parsed.files,
        **golden_files(classifier, TASK, examples, "small.tflite", "0" * 64),
        **_snippets("small.tflite", parsed, classifier, modality_of(TASK).presentation(TASK)),
    }


@pytest.mark.parametrize(("carrier", "variant"), [("words", "uint8"), ("keys", "int8"), ("keys", "float32")])
def test_python_snippet_gives_the_golden_ids_and_scores(tmp_path, carrier, variant):
    for name, content in bundle_of(carrier, variant).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    program = [sys.executable, str(tmp_path / "snippets" / "classify.py")]
    run = subprocess.run(program, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "ids of 0 texts differ" in run.stdout
    wrong = tmp_path / "golden" / "0.txt"
    wrong.write_text("other words baa0 bab1")
    assert subprocess.run(program, capture_output=True, check=False).returncode == 1


def test_golden_vectors_have_hard_cases():
    files = bundle_of("keys", "int8")
    vectors = json.loads(files["golden/golden.json"])["vectors"]
    texts = [files[vector["text"]].decode() for vector in vectors]
    assert texts[-len(HARD_TEXTS) :] == list(HARD_TEXTS)
    empty = vectors[texts.index("")]
    assert not np.frombuffer(files[empty["input"]], np.int32).any()
    assert empty["label"] is None


@pytest.mark.parametrize("carrier", ["words", "keys"])
def test_kotlin_and_swift_snippets_name_the_dictionary_and_the_length(carrier):
    files = bundle_of(carrier, "int8")
    dictionary = "vocab.txt" if carrier == "words" else "keys.bin"
    for name in ("snippets/Classifier.kt", "snippets/Classifier.swift"):
        text = files[name].decode()
        assert dictionary in text
        assert str(LENGTH) in text
        assert "{{" not in text
        assert "{%" not in text
