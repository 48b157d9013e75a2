# SPDX-License-Identifier: Apache-2.0
"""Tests a whole run of the guide's example of own students, which has layers that tfmot does not support."""

import re
from pathlib import Path

import pytest
import yaml
from support.digits_job import command, write_job

from learn2compress.schemas.reports import Report
from learn2compress.tflite.model_file import prove_full_int8, read_model_file

pytestmark = pytest.mark.e2e
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "own_students.md"


def test_run_compresses_the_students_of_a_module(tmp_path):
    config = write_job(tmp_path / "job")
    module = config.parent / "mine.py"
    module.write_text(re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.S)[1])
    output = tmp_path / "out"
    settings = yaml.safe_load(config.read_text()) | {"students": {"module": "mine.py:build"}}
    settings["distill"]["epochs"], settings["prune"]["epochs"], settings["quantize"]["epochs"] = 4, 2, 1
    config.write_text(yaml.safe_dump(settings))

    result = command("run", config, "--output", output)

    assert result.returncode == 0, result.stdout + result.stderr
    reported = result.stdout.splitlines()
    # The students are described once, before the first node.
    first_node = next(i for i, line in enumerate(reported) if line.startswith("[1/"))
    assert any("small: 11 layers, quantization: quantization-aware training" in line for line in reported[:first_node])
    assert sum(" layers, quantization: " in line for line in reported) == 2
    report = Report.model_validate_json((output / "report.json").read_text())
    students = [path.stem for path in (output / "models").glob("*.tflite") if not path.stem.startswith("teacher-")]
    assert set(students) == {
        "small-float32", "small-int8", "large-float32", "large-int8",
    }  # fmt: skip
    for name in ("small-int8", "large-int8"):
        assert prove_full_int8(read_model_file(output / "models" / f"{name}.tflite")).holds
    assert report.students.family_spec is None
    assert report.students.module.path == "module/mine.py"
    candidates = {candidate.name: candidate for candidate in report.evaluation.candidates}
    assert {row.method for row in candidates["small-int8"].layers} == {"quantization-aware", "output-only"}
    assert {row.method for row in candidates["large-int8"].layers} == {"post-training"}
    assert candidates["large-int8"].figures["test"].top1 > 0.5
    for student in report.students.students:
        assert student.sparsity == pytest.approx(0.5, abs=0.05)
        assert candidates[f"{student.name}-float32"].macs == student.macs
    page = (output / "report.html").read_text()
    assert "Checked before training: how large is quantized to 8 bits (" in page
    assert "tfmot does not support LayerNormalization" in page
