# SPDX-License-Identifier: Apache-2.0
"""Provides a finished output folder for the tests of the bundle and its snippets."""

import pytest

from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.reports import Verdict

STUDENT = "small"


@pytest.fixture
def finished(tmp_path, make_report, described, write_examples):
    """Create an output folder with a chosen file of a variant; return the folder, the report and the file."""

    def make(variant, folder=tmp_path):
        folder.mkdir(exist_ok=True)
        report, _ = make_report(images=100)
        candidate = next(c for c in report.evaluation.candidates if c.name == f"{STUDENT}-int8")
        candidate = candidate.model_copy(update={"name": f"{STUDENT}-{variant}", "variant": variant})
        described(folder / "selected.tflite", candidate)
        candidate = candidate.model_copy(update={"sha256": file_sha256(folder / "selected.tflite")})
        verdict = Verdict(candidate=candidate.name, status="chosen", reason="the only one that was made")
        choice = report.choice.model_copy(
            update={"chosen": candidate.name, "sha256": candidate.sha256, "verdicts": [verdict]}
        )
        evaluation = report.evaluation.model_copy(update={"candidates": [candidate]})
        report = report.model_copy(update={"evaluation": evaluation, "choice": choice})
        write_examples(folder / "pipeline" / "ImageExampleGen" / "examples" / "1", report)
        return folder, report, folder / "selected.tflite"

    return make
