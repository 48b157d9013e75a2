# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from learn2compress.data.stored_examples import read_shard
from learn2compress.report.bundle import find_examples, write_bundle
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import DataError, ModelFileError, OutputError
from learn2compress.tflite.interpreter import open_model


def unpack(output, report, selected, folder):
    bundle = write_bundle(output, report, selected, find_examples(output, report))
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder


def classify(folder, *pictures):
    """Run the snippet as an app developer does, without access to this project."""
    return subprocess.run(
        [sys.executable, "-P" if sys.version_info >= (3, 11) else "-E", "snippets/classify.py", *pictures],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )


@pytest.mark.parametrize("variant", ["float32", "int8", "uint8"])
def test_python_snippet_gives_the_golden_scores(finished, tmp_path, variant):
    folder = unpack(*finished(variant), tmp_path / "app")
    done = classify(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "largest difference 0.000000" in done.stdout
    assert done.stdout.count("differs by 0.000000") == 8


@pytest.mark.parametrize("variant", ["float32", "int8", "uint8"])
def test_golden_vectors_equal_the_outputs_of_the_emitted_file(finished, tmp_path, variant):
    output, report, selected = finished(variant)
    folder = unpack(output, report, selected, tmp_path / "app")
    golden = json.loads((folder / "golden" / "golden.json").read_text())
    assert golden["sha256"] == report.choice.sha256 == file_sha256(folder / golden["model"])
    classifier = open_model(selected)
    shards = sorted((find_examples(output, report) / "Split-test").iterdir())
    examples = {e.id: e for shard in shards for e in read_shard(shard, report.evaluation.task)}
    for vector in golden["vectors"]:
        picture = np.asarray(Image.open(folder / vector["image"]))
        assert np.array_equal(picture, examples[vector["id"]].content)
        assert vector["label"] == examples[vector["id"]].label
        assert np.array_equal(classifier.predict(picture[None])[0], np.array(vector["scores"], np.float32))
        entered, left = classifier.predict_raw(picture)
        assert (entered.dtype, left.dtype) == (variant, variant)
        assert (folder / vector["input"]).read_bytes() == entered.tobytes()
        assert (folder / vector["output"]).read_bytes() == left.tobytes()
        assert vector["predicted"] == int(np.argmax(vector["scores"]))
    # At most eight images of different classes with different predictions: a file that ignores its input would fail.
    assert len({vector["label"] for vector in golden["vectors"]}) == len(golden["vectors"]) == 8
    assert len({tuple(vector["scores"]) for vector in golden["vectors"]}) == 8


def test_python_snippet_notices_another_model_and_classifies_pictures(finished, tmp_path):
    folder = unpack(*finished("int8"), tmp_path / "app")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40), np.uint8))
    picture.save(tmp_path / "grey.png")
    done = classify(folder, str(tmp_path / "grey.png"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'grey.png'}: ")
    path = folder / "golden" / "golden.json"
    golden = json.loads(path.read_text())
    golden["vectors"][3]["scores"][0] += 0.5
    path.write_text(json.dumps(golden))
    done = classify(folder)
    assert done.returncode == 1
    assert "WRONG" in done.stdout


def test_bundle_has_equal_bytes_for_equal_runs(finished, monkeypatch):
    output, report, selected = finished("int8")
    examples = find_examples(output, report)
    first = write_bundle(output, report, selected, examples).read_bytes()
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    later = report.model_copy(update={"created": "2031-01-01T00:00:00+00:00"})
    assert write_bundle(output, later, selected, examples).read_bytes() == first
    with zipfile.ZipFile(output / "bundle.zip") as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_bundle_holds_the_chosen_file_and_its_labels(finished, tmp_path):
    output, report, selected = finished("uint8")
    folder = unpack(output, report, selected, tmp_path / "app")
    assert (folder / "small-uint8.tflite").read_bytes() == selected.read_bytes()
    assert (folder / "labels.txt").read_text().splitlines() == report.evaluation.task.classes
    assert {path.name for path in (folder / "snippets").iterdir()} == {
        "classify.py", "Classifier.kt", "Classifier.swift",
    }  # fmt: skip


def test_model_card_lists_figures_with_intervals_data_host_and_digests(finished, tmp_path):
    output, report, selected = finished("int8")
    card = (unpack(output, report, selected, tmp_path / "app") / "MODEL_CARD.md").read_text()
    (candidate,) = report.evaluation.candidates
    test = candidate.figures["test"]
    low, high = test.top1_interval.low, test.top1_interval.high
    for said in (
        f"| accuracy | {test.top1:.1%} ({low:.1%} to {high:.1%}) |".replace("%", " %"),
        "| train | 45,000 |",
        "| test | 100 |",
        "3 images are in both splits of train/test",
        "1 files could not be read",
        "bench, AMD EPYC, 2 cores, ai-edge-litert 2.3.0",
        "the only one that was made",
        candidate.sha256,
        report.teacher.sha256,
        report.data["digest"],
        "Classes with fewer than 30 test images",
    ):
        assert said in card
    rows = [line for line in card.splitlines() if line.startswith("| ") and line.count("|") == 6]
    assert len(rows) == 2 + len(report.evaluation.task.classes)


def test_model_card_lists_the_classes_of_lowest_recall_and_escapes_their_names(make_report):
    from learn2compress.report.model_card import render_model_card

    report, _ = make_report(images=2000, classes=["a|b", "<i>c", *(f"class {n}" for n in range(98))])
    card = render_model_card(report)
    assert "60 classes with the lowest recall; 40 more" in card
    assert "a|b" not in card
    assert "<i>" not in card


@pytest.mark.parametrize(
    ("variant", "kotlin", "swift"),
    [
        ("float32", "input.putFloat(value.toFloat())", "Float(value)"),
        ("int8", "quantized.coerceIn(-128, 127).toByte()", "Int8(min(max(quantized, -128), 127))"),
        ("uint8", "quantized.coerceIn(0, 255).toByte()", "UInt8(min(max(quantized, 0), 255))"),
    ],
)
def test_app_snippets_contain_the_constants_of_the_chosen_file(finished, tmp_path, variant, kotlin, swift):
    folder = unpack(*finished(variant), tmp_path / "app")
    model = open_model(folder / f"small-{variant}.tflite").model
    for name, said in (("Classifier.kt", kotlin), ("Classifier.swift", swift)):
        text = (folder / "snippets" / name).read_text()
        assert said in text
        assert "127.5, 127.5, 127.5" in text
        assert str(model.input.bytes) in text
        for tensor in (model.input, model.output):
            assert all(str(scale) in text for scale in tensor.scale)
        assert text.count("{") == text.count("}")
        assert "{%" not in text


def test_bundle_refuses_a_file_that_was_not_chosen(finished):
    output, report, selected = finished("int8")
    examples = find_examples(output, report)
    selected.write_bytes(selected.read_bytes() + b"more")
    with pytest.raises(ModelFileError, match=r"selected\.tflite must be the file that was chosen, small-int8"):
        write_bundle(output, report, selected, examples)
    assert not (output / "bundle.zip").exists()


def test_bundle_refuses_truncated_test_images(finished):
    output, report, selected = finished("int8")
    examples = find_examples(output, report)
    for shard in (examples / "Split-test").iterdir():
        shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(DataError, match="data_tfrecord"):
        write_bundle(output, report, selected, examples)


def test_bundle_refuses_an_unwritable_path(finished):
    output, report, selected = finished("int8")
    (output / "bundle.zip").mkdir()
    with pytest.raises(OutputError, match=r"bundle\.zip must be writable"):
        write_bundle(output, report, selected, find_examples(output, report))


def test_find_examples_returns_those_of_the_report(finished):
    output, report, _ = finished("int8")
    assert find_examples(output, report) == output / "pipeline" / "ImageExampleGen" / "examples" / "1"
    assert find_examples(output, report.model_copy(update={"data": {**report.data, "digest": "e" * 64}})) is None
