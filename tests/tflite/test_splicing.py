# SPDX-License-Identifier: Apache-2.0
"""Matching of the operators of a student's two files, and files combined from both."""

import numpy as np
import pytest
import tf_keras as keras
from ai_edge_litert import schema_py_generated as schema
from support.tflite_files import count_calls

from learn2compress.compression.family.model import cut_students, normalize
from learn2compress.compression.quantization.conversion import convert_mixed, convert_post_training, convert_reference
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.interpreter import open_model, run_images
from learn2compress.tflite.model_file import prove_full_int8, read_model
from learn2compress.tflite.packing import pack
from learn2compress.tflite.parsed_file import parse_file
from learn2compress.tflite.schema import unpack
from learn2compress.tflite.transformations.compaction import compact
from learn2compress.tflite.transformations.splicing import pair_files, splice


@pytest.fixture(scope="module")
def files(stripes, trained_weights):
    """The small student in float and in int8."""
    from learn2compress.compression.family.model import build_family

    family = build_family(stripes.SPEC, seed=1)
    family.set_weights(trained_weights)
    student = cut_students(family, stripes.SPEC.students)["small"]
    images = list(stripes.draw(32, 0)[0])
    return convert_reference(student).to_bytes(), convert_post_training(student, "int8", images).to_bytes()


@pytest.fixture(scope="module")
def pair(files):
    return pair_files(files[0], files[1])


@pytest.fixture(scope="module")
def images(stripes):
    return stripes.draw(20, 4)[0]


def everything(pair):
    return range(len(pair.steps))


def test_pair_files_matches_each_operator(pair, files):
    ops = [operator.name for operator in read_model(files[0]).operators]

    assert [step.op for step in pair.steps] == ops
    assert [step.place for step in pair.steps] == list(range(len(ops)))
    assert all(step.rounded for step in pair.steps)
    assert pair.logits == pair.steps[-1].reads[0]


def test_pair_files_follows_a_value_through_its_readers(pair):
    ops = [step.op for step in pair.steps]

    assert ops[:4] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD"]
    assert pair.readers(0) == {1, 3}  # the block, and the residual sum
    assert pair.readers(2) == {3}


def test_splice_of_all_operators_of_one_file_equals_that_file(pair, files, images):
    inputs = normalize(images).numpy()
    floating = splice(pair, everything(pair), float_ends=True)
    integer = splice(pair, ())

    assert run_images(floating, inputs)[0] == pytest.approx(run_images(files[0], inputs)[0], abs=1e-6)
    raw = images.astype(np.int16) - 128
    assert (run_images(integer, raw.astype(np.int8))[0] == run_images(files[1], raw.astype(np.int8))[0]).all()
    assert prove_full_int8(integer.facts).holds
    assert not [tensor for tensor in floating.facts.tensors if tensor.dtype == "int8"]


def test_splice_is_run_without_parsing_it_again(pair, images, monkeypatch):
    calls = count_calls(monkeypatch)

    spliced = splice(pair, {2}, float_ends=True)
    for _ in range(2):
        run_images(spliced, normalize(images[:1]).numpy())

    assert calls == {"unpack": 0, "pack": 1}


@pytest.mark.parametrize("in_float", [(), (0,), (1, 2)])
def test_splice_compacts_to_the_same_bytes_as_after_writing_and_parsing(pair, in_float):
    floats = [tensor.quantization for tensor in pair.floating.objects.subgraphs[0].tensors]
    before = [found and (found.min, found.max) for found in floats]
    again = compact(parse_file(splice(pair, in_float).to_bytes())).to_bytes()

    assert compact(splice(pair, in_float)).to_bytes() == again
    # Objects that a spliced file shares with the two files are not changed.
    assert [found and (found.min, found.max) for found in floats] == before


def test_splice_keeps_one_operator_in_float_between_integer_ends(pair, files, images):
    mixed = splice(pair, {2})

    model = mixed.facts
    assert (model.input.dtype, model.output.dtype) == ("int8", "int8")
    assert model.op_counts["DEQUANTIZE"] == model.op_counts["QUANTIZE"] == 1
    kernels = [tensor.dtype for tensor in model.tensors if tensor.sparsity is not None]
    assert kernels.count("float32") == 1
    assert not prove_full_int8(model).holds
    scaling = Scaling.named("symmetric")
    found, exact = (open_model(data, scaling=scaling).predict(images) for data in (mixed, files[1]))
    assert np.abs(found - exact).max() < 0.1


def test_splice_passes_a_float_value_to_a_float_operator_unconverted(pair):
    # Two operators in float read the stem's output, so that only the end of the block is converted to 8 bits.
    model = splice(pair, {0, 1, 2, 3}).facts

    assert (model.op_counts["DEQUANTIZE"], model.op_counts["QUANTIZE"]) == (1, 1)


def test_splice_rounds_the_inputs_of_a_float_operator_if_requested(pair, images):
    inputs = normalize(images).numpy()
    value = pair.steps[1].writes[0]
    exact = run_images(splice(pair, everything(pair), float_ends=True, outputs=[value]), inputs)[0]
    data = splice(pair, everything(pair), float_ends=True, rounded={1}, outputs=[value])
    rounded = run_images(data, inputs)[0]

    assert 0 < np.abs(rounded - exact).mean() < 0.02 * np.ptp(exact)


def test_splice_passes_booleans_unconverted(images):
    image = keras.Input(images.shape[1:])
    x = keras.layers.ThresholdedReLU(0.1)(keras.layers.Conv2D(4, 3)(image))
    student = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    pair = pair_files(convert_reference(student), convert_mixed(student, "int8", list(images)))
    compared = next(index for index, step in enumerate(pair.steps) if step.op == "GREATER")

    assert not pair.steps[compared].rounded
    expected = student(normalize(images)).numpy()
    for in_float in (everything(pair), [compared], [i for i in everything(pair) if i != compared], []):
        for rounded in ([], [i for i in in_float if i != compared]):
            data = splice(pair, in_float, float_ends=True, rounded=rounded, outputs=[pair.logits])
            (logits,) = run_images(data, normalize(images).numpy())
            np.testing.assert_allclose(logits, expected, atol=0.1 * np.ptp(expected))


def test_pair_files_refuses_another_graph(files):
    with pytest.raises(
        ModelFileError, match="other must have the operators of its float file; its ADD at 3 has no counterpart"
    ):
        pair_files(_without(files[0], 3), files[1], file="other")


def _without(data, place):
    """A file without one operator, whose readers read its input instead."""
    model = unpack(data)
    operators = model.subgraphs[0].operators
    gone = operators.pop(place)
    for operator in operators:
        operator.inputs = [int(gone.inputs[0]) if i == gone.outputs[0] else int(i) for i in operator.inputs]
    return pack(model)


def test_pair_files_refuses_a_file_that_lacks_the_last_operators(files):
    model = unpack(files[1])
    last = model.subgraphs[0].operators.pop()
    model.subgraphs[0].outputs = [int(last.inputs[0])]

    with pytest.raises(ModelFileError, match=r"the model must have the operators of its float .*; it lacks SOFTMAX\."):
        pair_files(files[0], pack(model))


def test_pair_files_refuses_control_flow(files):
    model = unpack(files[1])
    model.subgraphs.append(schema.SubGraphT())

    with pytest.raises(ModelFileError, match="looped must have one subgraph"):
        pair_files(files[0], pack(model), file="looped")
