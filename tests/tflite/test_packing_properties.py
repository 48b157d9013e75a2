# SPDX-License-Identifier: Apache-2.0
"""Random models, written by our packer and by the Builder of flatbuffers, which is the oracle."""

from itertools import pairwise
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st
from support.strategies.properties import examples

from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import IDENTIFIER, unpack

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
FLOATS = st.floats(width=32, allow_nan=False)


def built(model: schema.ModelT) -> bytes:
    """The file as the code generated from the schema writes it."""
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def content(value: Any) -> Any:
    """Contents of an object of the schema in a comparable form."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [content(item) for item in value]
    if hasattr(value, "__dict__"):
        return {"": type(value).__name__, **{name: content(item) for name, item in vars(value).items()}}
    return value


def vectors(elements: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(elements, max_size=5)


BYTES = st.binary(max_size=40).map(lambda data: np.frombuffer(data, np.uint8))
QUANTIZATION = st.builds(
    schema.QuantizationParametersT,
    min=st.none() | vectors(FLOATS),
    scale=st.none() | vectors(FLOATS),
    zeroPoint=st.none() | vectors(INT64),
    quantizedDimension=st.integers(0, 4),
)
TENSORS = st.builds(
    schema.TensorT,
    name=st.none() | NAMES,
    shape=st.none() | vectors(INT32),
    shapeSignature=st.none() | vectors(INT32),
    type=st.integers(0, 17),
    buffer=st.integers(0, 5),
    isVariable=st.booleans(),
    hasRank=st.booleans(),
    quantization=st.none() | QUANTIZATION,
)
OPTIONS = st.one_of(
    st.builds(schema.AddOptionsT, fusedActivationFunction=st.integers(0, 5)).map(lambda o: (11, o)),
    st.builds(schema.ReshapeOptionsT, newShape=vectors(INT32)).map(lambda o: (17, o)),
    st.just((0, None)),
)
OPERATORS = st.builds(
    lambda options, **fields: schema.OperatorT(builtinOptionsType=options[0], builtinOptions=options[1], **fields),
    options=OPTIONS,
    opcodeIndex=st.integers(0, 3),
    inputs=st.none() | vectors(INT32),
    outputs=st.none() | vectors(INT32),
    customOptions=st.none() | BYTES,
    mutatingVariableInputs=st.none() | vectors(st.booleans()),
)
GRAPHS = st.builds(
    schema.SubGraphT,
    name=st.none() | NAMES,
    tensors=st.lists(TENSORS, max_size=4),
    operators=st.lists(OPERATORS, max_size=3),
    inputs=vectors(INT32),
    outputs=vectors(INT32),
)
MODELS = st.builds(
    schema.ModelT,
    version=st.just(3),
    description=st.none() | NAMES,
    operatorCodes=st.lists(
        st.builds(
            schema.OperatorCodeT,
            deprecatedBuiltinCode=st.integers(0, 127),
            builtinCode=st.integers(0, 200),
            version=st.integers(1, 9),
            customCode=st.none() | NAMES,
        ),
        max_size=3,
    ),
    subgraphs=st.lists(GRAPHS, max_size=2),
    buffers=st.lists(st.builds(schema.BufferT, data=st.none() | BYTES), max_size=6),
    metadata=st.lists(st.builds(schema.MetadataT, name=NAMES, buffer=st.integers(0, 5)), max_size=2),
)


@examples(30)
@given(model=MODELS)
def test_pack_writes_what_the_builder_writes(model: schema.ModelT) -> None:
    reference = built(model)

    packed = pack(model)

    assert content(unpack(packed)) == content(unpack(reference))
    assert pack(unpack(packed)) == packed


@st.composite
def perceptrons(draw: st.DrawFn) -> schema.ModelT:
    """One to three fully connected layers with random weights, some of them equal, and random activations."""
    widths = draw(st.lists(st.integers(1, 6), min_size=2, max_size=4))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    tensors, operators = [schema.TensorT(name="x", shape=[1, widths[0]])], []
    buffers = [schema.BufferT()]

    def constant(value: np.ndarray) -> int:
        buffers.append(schema.BufferT(data=np.frombuffer(value.astype(np.float32).tobytes(), np.uint8)))
        tensors.append(schema.TensorT(name=f"w{len(tensors)}", shape=list(value.shape), buffer=len(buffers) - 1))
        return len(tensors) - 1

    last = 0
    for before, after in pairwise(widths):
        weights = constant(random.integers(-2, 3, (after, before))), constant(random.integers(-1, 2, after))
        tensors.append(schema.TensorT(name=f"y{len(tensors)}", shape=[1, after]))
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=draw(st.sampled_from([0, 1, 3])))
        operators.append(
            schema.OperatorT(
                inputs=[last, *weights], outputs=[len(tensors) - 1], builtinOptionsType=8, builtinOptions=options
            )
        )
        last = len(tensors) - 1
    graph = schema.SubGraphT(tensors=tensors, operators=operators, inputs=[0], outputs=[last])
    code = schema.OperatorCodeT(deprecatedBuiltinCode=9, builtinCode=9, version=1)
    return schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph], buffers=buffers)


def run(data: bytes, values: np.ndarray) -> np.ndarray:
    """The output of a file for one input."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@examples(25)
@given(model=perceptrons(), seed=st.integers(0, 100))
def test_packed_models_give_the_same_outputs(model: schema.ModelT, seed: int) -> None:
    shape = model.subgraphs[0].tensors[0].shape
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

    outputs = run(pack(model), values)

    assert np.array_equal(outputs, run(built(model), values))
    assert pack(unpack(built(model))) == pack(model)
