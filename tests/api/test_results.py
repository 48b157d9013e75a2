# SPDX-License-Identifier: Apache-2.0
"""What Python sees of a finished run."""

from pathlib import Path

import pytest

from learn2compress.api.results import Result, open_result
from learn2compress.report.assembly import write_report
from learn2compress.schemas.errors import OutputError


@pytest.fixture
def result(tmp_path, make_report) -> Result:
    report, thumbnails = make_report(images=200)
    write_report(tmp_path, report, thumbnails)
    return open_result(tmp_path)


def test_result_refuses_a_folder_without_a_run(tmp_path):
    with pytest.raises(OutputError, match=r"must hold a finished run; there is no report\.json"):
        open_result(tmp_path)


def test_result_lists_each_candidate_with_its_verdict(result):
    candidates = result.data.evaluation.candidates

    assert [model.name for model in result.models] == [candidate.name for candidate in candidates]
    assert result.models[0].accuracy == candidates[0].figures["test"].top1
    assert result.models[0].path == result.output / "models" / Path(candidates[0].file).name
    assert result.best.name == result.data.choice.chosen
    assert result.best.verdict == "chosen"


def test_table_is_indexed_by_name_position_and_slice(result):
    name = result.models[1].name

    assert result.models[name] is result.models[1]
    assert len(result.models[:2]) == 2
    with pytest.raises(KeyError, match="nothing"):
        result.models["nothing"]


def test_table_prints_a_line_for_each_model(result):
    lines = repr(result.models).splitlines()

    assert len(lines) == 1 + len(result.models)
    assert lines[0].split() == ["model", "size", "MACs", "accuracy", "latency", "verdict"]
    assert lines[1].startswith(result.models[0].name)
    assert result.models._repr_html_().count("<tr>") == len(lines)


def test_table_becomes_a_data_frame(result):
    pytest.importorskip("pandas")

    frame = result.models.to_pandas()

    assert list(frame.index) == [model.name for model in result.models]
    assert frame.loc[result.best.name, "bytes"] == result.best.bytes
    assert frame.loc[result.best.name, "accuracy"] == result.best.accuracy


def test_report_is_shown_in_a_frame_of_a_notebook(result):
    shown = result.report._repr_html_()

    assert shown.startswith("<iframe title=")
    assert 'srcdoc="&lt;!doctype html' in shown.lower()
    assert '"' not in shown.split('srcdoc="')[1].removesuffix('"></iframe>')
