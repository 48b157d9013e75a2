# SPDX-License-Identifier: Apache-2.0
"""Tests a whole run with students that are cut out of the teacher's own network."""

import numpy as np
import pytest
import yaml
from support.digits_job import command
from support.photographs import CLASSES, SIDE, draw_images, write_teacher

from learn2compress.schemas.reports import Report
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.model_file import prove_full_int8

pytestmark = pytest.mark.e2e


def test_run_cuts_students_out_of_a_keras_3_teacher(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    images, labels = draw_images(160, 11)
    others, truth = draw_images(120, 12)
    np.savez(
        folder / "data.npz",
        train_images=images, train_labels=labels, test_images=others, test_labels=truth, class_names=np.array(CLASSES),
    )  # fmt: skip
    write_teacher(folder / "teacher.keras")
    settings = {
        "teacher": {"path": "teacher.keras", "views": 2},
        "data": {"path": "data.npz", "validation_fraction": 0.2},
        "students": {"from": "teacher", "input": 32, "sizes": {"small": {"size_bytes": "13KB"}, "large": None}},
        "distill": {"steps": 24},
        "quantize": {"steps": 8, "teacher_variants": ["float16"]},
        "evaluate": {"latency_runs": 3},
        "pipeline": {"name": "photos"},
    }
    settings["students"]["sizes"]["large"] = {"size_bytes": "25KB"}
    config, output = folder / "config.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(settings))

    result = command("run", config, "--output", output)

    assert result.returncode == 0, result.stdout + result.stderr
    report = Report.model_validate_json((output / "report.json").read_text())
    assert report.students.trunk["input_shape"] == [32, 32, 3]
    assert report.students.initialization.kind == "teacher"
    candidates = {candidate.name: candidate for candidate in report.evaluation.candidates}
    for name, most in (("small", 13_000), ("large", 25_000)):
        path = output / "models" / f"{name}-int8.tflite"
        classifier = open_model(path)
        assert classifier.input_shape == (32, 32, 3)
        assert prove_full_int8(classifier.model).holds
        assert path.stat().st_size <= most
        assert candidates[f"{name}-int8"].figures["test"].top1 > 0.5
    assert open_model(output / "models" / "teacher-float16.tflite").input_shape == (SIDE, SIDE, 3)
    assert "linear probe" in result.stdout
