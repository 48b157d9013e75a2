# SPDX-License-Identifier: Apache-2.0
import struct

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import unpack

EVERY_VARIANT = ["float32", "float16", "dynamic", "int8", "uint8", "int8-float-ends"]


def _content(value):
    """Contents of an object of the schema in a comparable form."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [_content(item) for item in value]
    if hasattr(value, "__dict__"):
        return {"": type(value).__name__, **{name: _content(item) for name, item in vars(value).items()}}
    return value


def _minimal(**tensors):
    """A model without operators, whose tensors are given by name."""
    graph = schema.SubGraphT(
        tensors=[schema.TensorT(name=name, **fields) for name, fields in tensors.items()], operators=[]
    )
    return schema.ModelT(version=3, subgraphs=[graph], buffers=[schema.BufferT()])


@pytest.mark.parametrize("variant", EVERY_VARIANT)
def test_pack_keeps_all_contents_of_a_model(tflite_models, variant):
    model = unpack(tflite_models[variant])
    packed = pack(model)
    assert _content(unpack(packed)) == _content(model)
    assert pack(unpack(packed)) == packed


def test_pack_writes_the_root_and_the_identifier_first():
    packed = pack(_minimal())
    root = struct.unpack_from("<I", packed)[0]
    assert packed[4:8] == b"TFL3"
    vtable = root - struct.unpack_from("<i", packed, root)[0]
    # Version is slot 0; its value lies where the vtable says.
    assert struct.unpack_from("<I", packed, root + struct.unpack_from("<H", packed, vtable + 4)[0])[0] == 3


def test_pack_stores_equal_vectors_once():
    shape = list(range(100, 164))
    one = pack(_minimal(a={"shape": shape}))
    two = pack(_minimal(a={"shape": shape}, b={"shape": shape, "type": 9}))
    apart = pack(_minimal(a={"shape": shape}, b={"shape": shape[::-1], "type": 9}))
    # The second tensor costs its table, its name and an offset, but not its 64 dimensions again.
    assert len(two) - len(one) < 48
    assert len(apart) - len(one) >= 4 + 4 * 64


def test_pack_stores_equal_tables_once():
    model = _minimal(**{f"tensor {i}": {"quantization": _scaled(0.5)} for i in range(10)})
    for tensor in model.subgraphs[0].tensors:
        tensor.name = None
    packed = pack(model)
    again = unpack(packed)
    assert [t.quantization.scale.tolist() for t in again.subgraphs[0].tensors] == [[0.5]] * 10
    # Ten references to one tensor.
    assert packed.count(struct.pack("<f", 0.5)) == 1


def _scaled(scale):
    return schema.QuantizationParametersT(scale=[scale], zeroPoint=[0])


def test_pack_aligns_every_vector_to_its_elements_and_buffers_to_16():
    # The odd sizes leave gaps of every width.
    contents = [np.arange(size, dtype=np.uint8) + 50 for size in (1, 3, 16, 21, 40, 7, 64, 5)]
    model = _minimal(**{f"t{i}": {"quantization": _scaled(1.5 + i)} for i in range(6)})
    model.subgraphs[0].tensors[0].quantization.zeroPoint = [2**40 + 1, 7]
    model.buffers += [schema.BufferT(data=content) for content in contents]
    packed = pack(model)
    for content in contents:
        at = packed.find(struct.pack("<I", len(content)) + content.tobytes())
        assert at > 0
        assert (at + 4) % 16 == 0
    zero_points = packed.find(struct.pack("<Iqq", 2, 2**40 + 1, 7))
    assert zero_points > 0
    assert (zero_points + 4) % 8 == 0
    assert [b.data.tolist() for b in unpack(packed).buffers[1:]] == [c.tolist() for c in contents]


def test_pack_aligns_a_shared_vector_to_the_larger_of_two_alignments():
    # Four zero bytes as a buffer (16), and a count of four one-byte elements elsewhere with the same content.
    model = _minimal(a={}, b={})
    model.buffers.append(schema.BufferT(data=np.zeros(4, np.uint8)))
    model.subgraphs[0].operators = [
        schema.OperatorT(inputs=[0], outputs=[1], mutatingVariableInputs=np.zeros(4, np.bool_))
    ]
    packed = pack(model)
    again = unpack(packed)
    assert again.buffers[1].data.tolist() == [0] * 4
    assert again.subgraphs[0].operators[0].mutatingVariableInputs.tolist() == [False] * 4
    assert (packed.rfind(struct.pack("<II", 4, 0)) + 4) % 16 == 0


def test_pack_omits_default_values_only():
    model = _minimal(a={"isVariable": True, "type": schema.TensorType.INT8, "hasRank": True}, b={})
    again = unpack(pack(model)).subgraphs[0].tensors
    assert (again[0].isVariable, again[0].type, again[0].hasRank) == (True, schema.TensorType.INT8, True)
    assert (again[1].isVariable, again[1].type, again[1].hasRank) == (False, schema.TensorType.FLOAT32, False)


def test_pack_is_smaller_than_the_builder(tflite_models):
    assert len(pack(unpack(tflite_models["int8"]))) < 0.95 * len(tflite_models["int8"])
