# SPDX-License-Identifier: Apache-2.0
import random
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.model_file import prove_full_int8, read_model, read_model_file
from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import unpack

EVERY_VARIANT = ["float32", "float16", "dynamic", "int8", "uint8", "int8-float-ends"]


@pytest.mark.parametrize("variant", EVERY_VARIANT)
def test_read_model_counts_parameters_and_macs_as_by_hand(tflite_models, variant):
    model = read_model(tflite_models[variant])
    assert model.macs == 50_720
    assert model.parameters == 414
    counts = model.op_counts
    assert (counts["CONV_2D"], counts["DEPTHWISE_CONV_2D"], counts["FULLY_CONNECTED"]) == (2, 1, 1)


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_read_model_finds_the_zeros_of_a_kernel(tflite_models, variant):
    model = read_model(tflite_models[variant])
    pointwise = next(tensor for tensor in model.tensors if tensor.shape == (8, 1, 1, 8))
    assert pointwise.sparsity == 0.5
    assert model.sparsity == pytest.approx(32 / (216 + 72 + 64 + 32), abs=0.02)


def test_read_model_describes_quantization(tflite_models):
    model = read_model(tflite_models["int8"])
    assert (model.input.dtype, model.input.shape) == ("int8", (1, 12, 12, 3))
    assert model.input.shape_signature == (-1, 12, 12, 3)
    assert model.input.scale == pytest.approx([1.0], abs=1e-3)
    assert model.input.zero_point == (-128,)
    assert model.output.scale == (1 / 256,)
    depthwise = next(tensor for tensor in model.tensors if tensor.shape == (1, 3, 3, 8))
    assert depthwise.per_channel
    assert (len(depthwise.scale), depthwise.axis, set(depthwise.zero_point)) == (8, 3, {0})
    assert (depthwise.constant, depthwise.bytes) == (True, 72)


def test_read_model_gives_each_operator_its_weights(tflite_models):
    model = read_model(tflite_models["int8"])
    dense = next(operator for operator in model.operators if operator.name == "FULLY_CONNECTED")
    weights = [model.tensors[i] for i in dense.inputs if i >= 0 and model.tensors[i].constant]
    assert dense.weight_bytes == sum(tensor.bytes for tensor in weights) >= 32
    assert dense.macs == 32


@pytest.mark.parametrize("variant", ["int8", "uint8"])
def test_prove_full_int8_holds_for_integers_from_input_to_output(tflite_models, variant):
    proof = prove_full_int8(read_model(tflite_models[variant]))
    assert proof.holds
    assert proof.float_tensors == proof.reasons == []
    assert (proof.input_dtype, proof.output_dtype) == (variant, variant)


@pytest.mark.parametrize("variant", ["float32", "float16", "dynamic", "int8-float-ends"])
def test_prove_full_int8_gives_the_reasons_if_it_fails(tflite_models, variant):
    proof = prove_full_int8(read_model(tflite_models[variant]))
    assert not proof.holds
    assert f"{len(proof.float_tensors)} float tensor(s): " in proof.reasons[0]
    assert any(reason.startswith("input ") and reason.endswith("is float32") for reason in proof.reasons)


def test_prove_full_int8_refuses_16_bit_activations(tflite_models):
    model = unpack(tflite_models["int8"])
    model.subgraphs[0].tensors[int(model.subgraphs[0].operators[2].outputs[0])].type = schema.TensorType.INT16
    proof = prove_full_int8(read_model(pack(model)))
    assert not proof.holds
    assert "1 tensor(s) computed in 16 bits" in proof.reasons[0]


def test_sparsity_compares_with_the_zero_point_of_each_channel(tflite_models):
    model = unpack(tflite_models["int8"])
    kernel = next(t for t in model.subgraphs[0].tensors if t.shape is not None and list(t.shape) == [1, 3, 3, 8])
    content = np.tile(np.array([5, -3, 5, 5, 5, 5, 5, 5], np.int8), 9)
    model.buffers[kernel.buffer].data = content.view(np.uint8)
    kernel.quantization.zeroPoint = np.array([5, -3, 0, 0, 0, 0, 0, 0], np.int64)
    read = next(tensor for tensor in read_model(pack(model)).tensors if tensor.shape == (1, 3, 3, 8))
    assert read.sparsity == 18 / 72


def test_read_model_refuses_a_file_truncated_at_any_length(tflite_models):
    data = tflite_models["int8"]
    for length in [*range(0, 64), *range(64, len(data) - 1, 97), len(data) - 64]:
        with pytest.raises(ModelFileError, match=r"complete .tflite file; got student.tflite, and .* Convert or"):
            read_model(data[:length], file="student.tflite")


def test_read_model_reads_or_refuses_damaged_bytes_and_raises_no_other_error(tflite_models):
    data, chance = tflite_models["int8"], random.Random(5)
    refused = 0
    for trial in range(400):
        damaged = bytearray(data)
        for _ in range(1 + trial % 4):
            # Most of a file is weights, which may have any value: change the tables before them as well.
            at = chance.randrange(len(data) if trial % 2 else 1_500)
            damaged[at] = chance.randrange(256)
        try:
            read_model(bytes(damaged))
        except ModelFileError:
            refused += 1
    assert 0 < refused < 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m, "version", 2), "schema version is 2, not 3"),
        (lambda m: setattr(m, "subgraphs", []), "no subgraph"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "buffer", 999), "has no buffer"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "type", 99), "has the type 99"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [1, -2]), r"has the shape \(1, -2\)"),
        (lambda m: setattr(m.subgraphs[0].operators[0], "inputs", [999]), "reads a tensor that does not exist"),
        (lambda m: setattr(m.subgraphs[0].operators[0], "outputs", [-1]), "writes a tensor that does not exist"),
        (lambda m: setattr(m.subgraphs[0].operators[0], "inputs", None), "has no inputs or outputs"),
        (lambda m: setattr(m.subgraphs[0].operators[0], "opcodeIndex", 99), "an operator has no code"),
        (lambda m: setattr(m.operatorCodes[0], "builtinCode", 9_999), "operator code 0 is 9999"),
        (lambda m: setattr(m.subgraphs[0], "outputs", [999]), "an input or output does not exist"),
        (lambda m: m.subgraphs[0].operators.reverse(), "is read before it is written"),
        (lambda m: m.subgraphs[0].operators.append(m.subgraphs[0].operators[0]), "is written twice, or a constant"),
        (lambda m: m.buffers[_kernel(m).buffer].__dict__.update(data=[0] * 9), "must have 72 bytes; it has 9"),
        (
            lambda m: setattr(_kernel(m).quantization, "zeroPoint", [0]),
            "different numbers of zero points and scales",
        ),
        (lambda m: setattr(_kernel(m).quantization, "quantizedDimension", 4), "along the dimension 4"),
        (lambda m: setattr(_kernel(m).quantization, "quantizedDimension", 1), r"8 scales for the shape \(1, 3, 3, 8\)"),
    ],
)
def test_read_model_refuses_an_inconsistent_file(tflite_models, change, message):
    model = unpack(tflite_models["int8"])
    change(model)
    with pytest.raises(ModelFileError, match=message):
        read_model(pack(model))


def _kernel(model):
    return next(t for t in model.subgraphs[0].tensors if t.shape is not None and list(t.shape) == [1, 3, 3, 8])


def test_read_model_refuses_bytes_that_are_no_model():
    with pytest.raises(ModelFileError, match=r"got notes.txt, and its bytes 4 to 7 are b'is n'"):
        read_model(b"thisis no model", file="notes.txt")


def test_read_model_file_names_a_missing_file(tmp_path):
    with pytest.raises(ModelFileError, match=r"must be readable; got .*missing.tflite \(No such file"):
        read_model_file(tmp_path / "missing.tflite")


def test_read_model_file_names_a_truncated_file(tmp_path, tflite_models):
    path = tmp_path / "half.tflite"
    path.write_bytes(tflite_models["float32"][:2_000])
    with pytest.raises(ModelFileError, match=r"half.tflite, and it is cut short"):
        read_model_file(path)


def test_input_is_refused_when_there_are_two(tflite_models):
    model = unpack(tflite_models["int8"])
    model.subgraphs[0].inputs = [*model.subgraphs[0].inputs, *model.subgraphs[0].inputs]
    read = read_model(pack(model), file="two.tflite")
    with pytest.raises(ModelFileError, match=r"must have one input; got 2 in two.tflite"):
        _ = read.input


def test_reading_a_file_imports_no_tensorflow():
    modules = "inspection, interpreter, metadata, model_file"
    changes = "compaction, end_names, metadata, splicing"
    code = (
        f"import sys; from learn2compress.tflite import {modules}; "
        f"from learn2compress.tflite.transformations import {changes}; print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
