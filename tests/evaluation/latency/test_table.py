# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from support.latency import PER_MAC

from learn2compress.evaluation.latency.measuring import operations_to_measure
from learn2compress.evaluation.latency.model import Measured
from learn2compress.evaluation.latency.table import model_text, read_table, recorded_model, write_table
from learn2compress.schemas.errors import ConfigError
from learn2compress.schemas.reports import Host

PHONE = Host(name="Pixel 8", processor="Tensor G3", cores=9, runtime="benchmark_model", source="device")
ROW = {"kind": "add", "height": 4, "width": 4, "inputs": 8, "outputs": 8, "ms": 0.01}


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "phone.json"
    rows = [
        Measured(operation, 0.01 + times * PER_MAC.operation_ms(operation), times)
        for operation, times in operations_to_measure()
    ]
    write_table(path, PHONE, rows)
    return path


def test_read_table_reads_what_write_table_writes(written):
    found = read_table(written)

    assert (found.device, found.runtime) == ("Pixel 8", "benchmark_model")
    assert json.loads(written.read_text())["operations"][0] == {**ROW, "ms": 0.01}
    assert found.operation_ms(operations_to_measure()[40][0]) == pytest.approx(
        PER_MAC.operation_ms(operations_to_measure()[40][0]), rel=0.01
    )


def test_model_text_is_read_back_as_the_same_numbers(written):
    found = read_table(written)

    again = recorded_model(model_text(found))

    assert (again.device, again.invocation, again.terms) == (found.device, found.invocation, found.terms)
    assert recorded_model(model_text(again)) is again
    (written.parent / "model.json").write_text(model_text(found))
    assert read_table(written.parent / "model.json").terms == found.terms


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"latency table .*t\.json must be JSON with a device and its operations; got .*\. Write it with"),
        ('{"device": "x"}', r"got operations: Field required\."),
        ('{"device": "x", "operations": []}', r"got operations: List should have at least 1 item"),
        (json.dumps({"device": "x", "operations": [{**ROW, "kind": "lstm"}]}), r"operations\.0\.kind: Input should be"),
        (json.dumps({"device": "x", "operations": [{**ROW, "ms": 0}]}), r"operations\.0\.ms: .* greater than 0"),
        (json.dumps({"device": "x", "operations": [ROW], "threads": 4}), r"threads: Extra inputs are not permitted"),
        (json.dumps({"device": "x", "operations": [ROW]}), r"must hold an operation both alone and repeated"),
        (json.dumps({"device": "x", "terms": {}}), r"got runtime: Field required"),
    ],
)
def test_read_table_refuses_another_format(tmp_path, text, message):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_table(tmp_path / "t.json")


def test_read_table_refuses_a_model_with_another_number_of_terms(tmp_path):
    tree = json.loads(model_text(PER_MAC))
    tree["terms"]["conv"]["microseconds"] = [1.0]
    (tmp_path / "t.json").write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match=r"terms\.conv must have 8 coefficients; got 1"):
        read_table(tmp_path / "t.json")


def test_read_table_refuses_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"latency_table must be a readable file; got .*none\.json: No such"):
        read_table(tmp_path / "none.json")
