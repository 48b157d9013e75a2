# SPDX-License-Identifier: Apache-2.0
"""Each student pruned and quantized in nodes of its own, in a real run."""

import json

import pytest
import yaml

from learn2compress.schemas.reports import Report
from tests.e2e.conftest import command, write_job

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_students_made_apart_are_chosen_from_and_traced_each_to_its_own_nodes(tmp_path):
    config = write_job(tmp_path / "job")
    settings = yaml.safe_load(config.read_text()) | {"students": {"sizes": {"small": None, "large": None}}}
    settings["distill"]["epochs"], settings["prune"]["epochs"], settings["quantize"]["epochs"] = 4, 1, 1
    settings["kubeflow"] = {"fan_out": True}
    config.write_text(yaml.safe_dump(settings))
    output = tmp_path / "out"

    done = command("run", config, "--output", output)

    assert done.returncode == 0, done.stdout + done.stderr
    report = Report.model_validate_json((output / "report.json").read_text())
    names = ["small-float32", "small-int8", "large-float32", "large-int8", "teacher-int8"]
    assert [one.name for one in report.evaluation.candidates] == names
    assert [student.name for student in report.students.students] == ["small", "large"]
    assert {one.stage for one in report.curves} == {"distilled", "pruned", "quantized"}
    assert all(set(one.accuracy) == {"small", "large"} for one in report.curves)
    for student in ("small", "large"):
        told = command("lineage", output / "models" / f"{student}-int8.tflite", "--at", output, "--json")
        found = json.loads(told.stdout)
        assert found["status"] == "whole"
        [chain] = found["chains"]
        assert [step["node"] for step in chain["steps"]] == [
            f"Quantizer-{student}", f"Pruner-{student}", "Distiller", "TeacherImporter", "ImageExampleGen",
        ]  # fmt: skip
        assert chain["steps"][0]["parameters"]["student"] == student
        assert chain["measurements"][0]["figures"]["name"] == f"{student}-int8"
        assert {one["name"] for one in chain["siblings"]} == set(names) - {f"{student}-int8"}
    assert command("verify", output).returncode == 0
