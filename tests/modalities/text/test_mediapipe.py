# SPDX-License-Identifier: Apache-2.0
"""Compares MediaPipe's TextClassifier with the evaluator on the same file, where a Python with MediaPipe is given.

python3.10 -m venv mediapipe && mediapipe/bin/pip install mediapipe==0.10.21
MEDIAPIPE_PYTHON=mediapipe/bin/python pytest tests/modalities/text/test_mediapipe.py
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.texts.students import small_family, student_file, texts_of

from learn2compress.modalities.text.classifier import open_text_model
from learn2compress.modalities.text.snippets import HARD_TEXTS

PYTHON = os.environ.get("MEDIAPIPE_PYTHON")
PROGRAM = Path(__file__).parents[2] / "support" / "texts" / "run_mediapipe.py"


@pytest.mark.skipif(not PYTHON, reason="MEDIAPIPE_PYTHON names no Python with mediapipe 0.10.21")
@pytest.mark.parametrize("variant", ["uint8", "float32"])
def test_mediapipe_gives_the_class_of_the_evaluator(tmp_path, variant):
    path = tmp_path / "model.tflite"
    path.write_bytes(student_file("words", "large", variant))
    texts = [text.decode().title() for text in texts_of(small_family("words")[2], 1000)] + list(HARD_TEXTS)
    classifier = open_text_model(path)
    scores = classifier.predict(np.array([text.encode() for text in texts], object))
    run = subprocess.run(
        [str(PYTHON), str(PROGRAM), str(path)], input=json.dumps(texts), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    same = [
        classifier.labels.index(name) == int(score.argmax())
        for name, score in zip(json.loads(run.stdout), scores, strict=True)
    ]
    assert np.mean(same) >= 0.995
