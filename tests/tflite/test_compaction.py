# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from support.tflite_files import compact

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.associated_files import append_files, split_files
from learn2compress.tflite.model_file import prove_full_int8, read_model
from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import unpack

EVERY_VARIANT = ["float32", "float16", "dynamic", "int8", "uint8", "int8-float-ends"]


def _outputs(interpreter, pixels):
    image, scores = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.allocate_tensors()
    outputs = []
    for picture in pixels[:8]:
        values = picture.astype(np.int16) - (128 if image["dtype"] == np.int8 else 0)
        interpreter.set_tensor(image["index"], values[None].astype(image["dtype"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(scores["index"]))
    return np.concatenate(outputs)


@pytest.mark.parametrize("variant", EVERY_VARIANT)
def test_compact_keeps_all_outputs_bit_for_bit(tflite_models, pixels, variant):
    from tensorflow import lite

    before, after = tflite_models[variant], compact(tflite_models[variant])
    assert len(after) < len(before)
    for kernels in (
        OpResolverType.AUTO,
        OpResolverType.BUILTIN_REF,
        OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    ):
        runs = [
            _outputs(Interpreter(model_content=data, experimental_op_resolver_type=kernels), pixels)
            for data in (before, after)
        ]
        assert np.array_equal(*runs)
        assert len(np.unique(runs[0])) > 4
    assert np.array_equal(*[_outputs(lite.Interpreter(model_content=data), pixels) for data in (before, after)])


@pytest.mark.parametrize("variant", EVERY_VARIANT)
def test_compact_keeps_the_description_of_a_file(tflite_models, variant):
    before, after = read_model(tflite_models[variant]), read_model(compact(tflite_models[variant]))
    assert after.op_counts == before.op_counts
    assert (after.macs, after.parameters, after.sparsity) == (before.macs, before.parameters, before.sparsity)
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert prove_full_int8(after).holds == prove_full_int8(before).holds
    assert [(t.shape, t.shape_signature, t.dtype, t.scale, t.zero_point, t.axis) for t in after.tensors] == [
        (t.shape, t.shape_signature, t.dtype, t.scale, t.zero_point, t.axis) for t in before.tensors
    ]


def test_compact_reduces_a_small_int8_file_by_a_fifth(tflite_models):
    assert len(compact(tflite_models["int8"])) < 0.8 * len(tflite_models["int8"])


def test_compact_does_not_change_a_compacted_file(tflite_models):
    once = compact(tflite_models["int8"])
    assert compact(once) == once


def test_compact_keeps_the_signature_and_the_names_of_inputs_and_outputs(tflite_models):
    before, after = (
        Interpreter(model_content=data) for data in (tflite_models["int8"], compact(tflite_models["int8"]))
    )
    assert after.get_signature_list() == before.get_signature_list()
    assert len(after.get_signature_list()) == 1
    assert [d["name"] for d in after.get_input_details()] == [d["name"] for d in before.get_input_details()]
    inner = [t.name for t in unpack(compact(tflite_models["int8"])).subgraphs[0].tensors]
    assert sum(name is not None for name in inner) == 2


def test_compact_keeps_names_if_requested(tflite_models):
    kept = unpack(compact(tflite_models["int8"], keep_names=True)).subgraphs[0].tensors
    assert [t.name for t in kept] == [t.name for t in unpack(tflite_models["int8"]).subgraphs[0].tensors]


def test_compact_removes_unused_buffers_codes_ranges_and_metadata(tflite_models):
    model = unpack(tflite_models["int8"])
    model.operatorCodes.insert(0, schema.OperatorCodeT(builtinCode=0, version=7))
    for operator in model.subgraphs[0].operators:
        operator.opcodeIndex += 1
    for tensor in model.subgraphs[0].tensors:
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            tensor.quantization.min = np.full(len(tensor.quantization.scale), -1.25, np.float32)
            tensor.quantization.max = np.full(len(tensor.quantization.scale), 1.25, np.float32)
    model.buffers.append(schema.BufferT(data=np.full(1_000, 77, np.uint8)))
    model.buffers.append(schema.BufferT(data=np.full(20, 55, np.uint8)))
    model.metadata.append(schema.MetadataT(name="reduced_precision_support", buffer=len(model.buffers) - 1))
    model.description = "made on a rainy day"
    small = unpack(compact(pack(model)))
    assert [entry.name for entry in small.metadata] == [b"reduced_precision_support"]
    assert small.buffers[small.metadata[0].buffer].data.tolist() == [55] * 20
    assert small.description is None
    assert 7 not in [code.version for code in small.operatorCodes]
    contents = [buffer.data.tobytes() for buffer in small.buffers[1:]]
    assert small.buffers[0].data is None
    assert len(set(contents)) == len(contents)
    assert b"M" * 1_000 not in contents
    assert all(t.quantization is None or t.quantization.min is None for t in small.subgraphs[0].tensors)
    assert compact(pack(model)) == compact(pack(small))


def test_compact_shares_the_buffers_of_equal_constants(tflite_models):
    model = unpack(tflite_models["float32"])
    biases = [t for t in model.subgraphs[0].tensors if t.shape is not None and list(t.shape) == [8]]
    for tensor in biases:
        model.buffers[tensor.buffer].data = np.arange(8, dtype=np.float32).view(np.uint8)
    small = unpack(compact(pack(model)))
    shared = {t.buffer for t in small.subgraphs[0].tensors if t.shape is not None and list(t.shape) == [8]}
    assert len(biases) == 3
    assert len(shared) == 1


def test_compact_keeps_files_appended_to_the_model(tflite_models):
    files = {"labels.txt": b"a\nb\nc\nd\n", "notes.txt": b"PK"}
    small = compact(append_files(tflite_models["int8"], files))
    assert split_files(small) == (compact(tflite_models["int8"]), files)


def test_compact_refuses_a_truncated_file(tflite_models):
    with pytest.raises(ModelFileError, match=r"got student.tflite, and it is cut short"):
        compact(tflite_models["int8"][:3_000], file="student.tflite")


def test_compact_refuses_an_inconsistent_file(tflite_models):
    model = unpack(tflite_models["int8"])
    model.metadata = [schema.MetadataT(name="reduced_precision_support", buffer=999)]
    data = pack(model)
    with pytest.raises(ModelFileError, match=r"its metadata refer to buffer 999"):
        compact(data)


def test_compact_refuses_weights_outside_the_flatbuffer(tflite_models):
    model = unpack(tflite_models["int8"])
    outside = next(buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data) == 72)
    content, outside.data = outside.data.tobytes(), None
    outside.size = len(content)
    outside.offset = 1 << 20
    length = len(pack(model))
    outside.offset = length
    data = pack(model) + content
    assert read_model(data).parameters == 414
    with pytest.raises(ModelFileError, match=r"got big.tflite, which refers to data outside"):
        compact(data, file="big.tflite")
