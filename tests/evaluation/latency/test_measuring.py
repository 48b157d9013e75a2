# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from learn2compress.evaluation.latency import measuring
from learn2compress.evaluation.latency.measuring import cached_model, model_of_host, operations_to_measure
from learn2compress.evaluation.latency.model import Measured
from learn2compress.evaluation.latency.operation_file import operation_file
from learn2compress.evaluation.latency.operations import KINDS, Operation, addition, operations_of
from learn2compress.schemas.reports import Host
from learn2compress.tflite.model_file import prove_full_int8, read_model

HOST = Host(name="desk", processor="Slow 1", cores=2, runtime="ai-edge-litert 2.3.0")


@pytest.fixture
def measurements(tmp_path, monkeypatch):
    """Use a cache folder of its own, and count measurements, which take no time here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def measure(files, **_):
        calls.append(len(files))
        return [Measured(one, 0.01 * times + one.pixels * one.outputs * 1e-6 * times, times) for one, times in files]

    monkeypatch.setattr(measuring, "measure_operations", measure)
    return calls


def test_model_of_host_measures_once(measurements):
    assert cached_model(HOST) is None

    first, second = model_of_host(HOST), model_of_host(HOST.model_copy(update={"name": "another desk"}))

    assert len(measurements) == 1
    assert first.device == second.device == "Slow 1"
    assert first.terms == second.terms == cached_model(HOST).terms


@pytest.mark.parametrize("other", [{"processor": "Slow 2"}, {"cores": 4}, {"runtime": "ai-edge-litert 2.4.0"}])
def test_model_of_host_measures_another_processor_and_runtime(measurements, other):
    model_of_host(HOST)
    model_of_host(HOST.model_copy(update=other))

    assert len(measurements) == 2


def test_model_of_host_measures_anew_when_the_file_is_damaged(measurements, tmp_path):
    model_of_host(HOST)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(path.read_text()[:100])

    assert cached_model(HOST) is None
    assert model_of_host(HOST).device == "Slow 1"
    assert len(measurements) == 2
    assert cached_model(HOST) is not None


@pytest.mark.usefixtures("measurements")
def test_model_of_host_is_not_kept_when_the_folder_cannot_be_written(tmp_path):
    (tmp_path / "learn2compress").write_text("in the way")
    told = []

    assert model_of_host(HOST, told.append).device == "Slow 1"
    assert "was not kept, since" in told[-1]


def test_operations_to_measure_hold_every_kind_and_are_the_same_each_time():
    operations = operations_to_measure()

    assert operations == operations_to_measure()
    assert {operation.kind for operation, _ in operations} == set(KINDS)
    assert len(set(operations)) == len(operations)


def test_operation_file_holds_the_operation_in_int8():
    for operation, times in {one.kind: (one, times) for one, times in operations_to_measure()}.values():
        model = read_model(operation_file(operation, times))
        assert operations_of(model) == (operation,) * times
        assert prove_full_int8(model).holds


def test_operation_file_computes_the_operation():
    interpreter = Interpreter(model_content=operation_file(addition(2, 2, 4)))
    interpreter.allocate_tensors()
    values = np.arange(-8, 8, dtype=np.int8).reshape(1, 2, 2, 4)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()

    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(found, np.maximum(2 * values, 0))


def test_measure_operations_measures_each_in_milliseconds():
    files = [(Operation("dense", 1, 1, 8, 10), 1), (addition(4, 4, 8), 3)]
    told = []

    found = measuring.measure_operations(files, rounds=1, say=told.append)

    assert [(one.operation, one.times) for one in found] == files
    assert all(0 < one.ms < 1000 for one in found)
    assert told[0].startswith("Measuring 2 operations")
