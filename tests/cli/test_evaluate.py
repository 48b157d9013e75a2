# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path, brightest_pixel_tflite):
    """A model that predicts the brightest pixel, and 300 test images, of which it classifies 270 correctly."""
    (tmp_path / "good.tflite").write_bytes(brightest_pixel_tflite)
    (tmp_path / "short.tflite").write_bytes(brightest_pixel_tflite[:300])
    labels = np.arange(300) % 4
    shown = labels.copy()
    shown[:30] = (shown[:30] + 1) % 4
    images = np.zeros((300, 2, 2, 1), np.uint8)
    images.reshape(-1, 4)[np.arange(300), shown] = 200
    np.savez(
        tmp_path / "data.npz",
        train_images=images[:8],
        train_labels=labels[:8],
        test_images=images,
        test_labels=labels,
        class_names=np.array(["a", "b", "c", "d"]),
    )
    np.savez(tmp_path / "two.npz", images=images, labels=labels % 2, class_names=np.array(["a", "b"]))
    return tmp_path


def test_evaluate_prints_json_of_each_file(type_in, folder):
    status, out, _ = type_in(
        "evaluate", folder / "good.tflite", "--data", folder / "data.npz", "--json", "--runs", 3, "--top-k", 2
    )
    (found,) = json.loads(out)
    assert status == 0
    assert found["file"] == str(folder / "good.tflite")
    assert (found["accuracy"], found["images"], found["k"]) == (0.9, 300, 2)
    assert sum(map(sum, found["confusion"])) == 300
    assert [entry["class"] for entry in found["per_class"]] == ["a", "b", "c", "d"]
    assert found["latency"][0]["runs"] == 3
    assert found["host"]["runtime"].startswith("ai-edge-litert")


def test_evaluate_continues_when_a_file_is_truncated(type_in, folder):
    status, out, err = type_in(
        "evaluate", folder / "short.tflite", folder / "good.tflite", "--data", folder / "data.npz", "--json"
    )
    short, good = json.loads(out)
    assert status == 2
    assert (short["accuracy"], good["accuracy"]) == (None, 0.9)
    assert "short.tflite" in short["failed"]
    assert f"learn2compress: {short['failed']}" in err


def test_evaluate_prints_a_table(type_in, folder):
    status, out, _ = type_in("evaluate", folder / "good.tflite", "--data", folder / "data.npz", "--limit", 100)
    assert status == 0
    assert "90.00%" in out


def test_evaluate_refuses_labels_whose_count_differs(type_in, folder):
    status, out, err = type_in("evaluate", folder / "good.tflite", "--data", folder / "two.npz", "--json")
    assert status == 2
    assert json.loads(out)[0]["accuracy"] is None
    assert "must return a score for each of 2 classes; got 4" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.tflite", "--data", "digits"], "must be readable; got none.tflite"),
        (["good.tflite", "--data", "nowhere"], "data.path must be an existing file or folder; got nowhere"),
        (["good.tflite", "--data", "digits", "--scaling", "unti"], "Did you mean 'unit'"),
        (["good.tflite", "--data", "digits", "--format", "zip"], "--format is wrong"),
    ],
)
def test_evaluate_refuses_bad_options(type_in, folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    status, _, err = type_in("evaluate", *arguments)
    assert status == 2
    assert message in err


def test_evaluate_imports_neither_tensorflow_nor_tfx(folder):
    program = (
        "import sys\nfrom learn2compress.cli.main import main\n"
        f"arguments = ['evaluate', {str(folder / 'good.tflite')!r}, '--data', {str(folder / 'data.npz')!r}, '--json']\n"
        "try: main(arguments)\nexcept SystemExit as stop: assert stop.code == 0\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'tensorflow', 'tfx', 'apache_beam', 'keras'}))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
