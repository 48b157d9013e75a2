# SPDX-License-Identifier: Apache-2.0
"""Files that are fixed to a batch, or that take flattened images, are measured as plain inference measures them."""

import json

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support.tiny_classifiers import SIDE, Tiny, make_images, make_tiny, plain_classes, save_npz

from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import unpack

NAMES = ("apple", "berry", "cherry", "daisy")
LABELS = np.arange(43) % 4
UNIT = Scaling.named("unit")


@pytest.fixture
def evaluate(type_in, tmp_path):
    """Runs `evaluate` on a file, and returns its status, the record and the error output."""

    def run(content, *options, channels=3, images=None):
        (tmp_path / "a.tflite").write_bytes(content)
        images = make_images(LABELS, channels=channels) if images is None else images
        data = save_npz(tmp_path / "data.npz", images, LABELS, NAMES)
        words = ["--data", data, "--json", "--runs", 1, "--scaling", "unit", *options]
        status, out, err = type_in("evaluate", tmp_path / "a.tflite", *words)
        return status, json.loads(out)[0], err

    return run


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_evaluate_reads_a_fixed_batch_and_drops_what_fills_it_up(evaluate, dtype):
    quantization = (1 / 255, 0) if dtype == "uint8" else None
    status, found, _ = evaluate(make_tiny(Tiny(UNIT, batch=8, dtype=dtype, quantization=quantization)))
    assert (status, found["accuracy"], found["images"]) == (0, 1.0, 43)
    assert "in batches of 8, the last one filled up: MACs, memory and latency are those of 8 images" in found["read_as"]
    assert found["macs"] == 8 * 4 * 6 * 6 * 3


def test_evaluate_refuses_a_batch_that_mixes_its_images(evaluate):
    model = unpack(make_tiny(Tiny(UNIT, batch=8)))
    graph = model.subgraphs[0]
    # The largest of all images' scores is taken off each: a softmax over the whole batch.
    [softmax] = [one for one in graph.operators if one.builtinOptionsType == schema.BuiltinOptions.SoftmaxOptions]
    graph.tensors[softmax.inputs[0]].shape = graph.tensors[softmax.outputs[0]].shape = [1, 32]
    scores = softmax.inputs[0]
    graph.tensors[scores].shape = [8, 4]
    reshaped, last = schema.TensorT(), schema.TensorT()
    for tensor, shape, name in ((reshaped, [1, 32], b"joined"), (last, [8, 4], b"last")):
        tensor.shape, tensor.type, tensor.name, tensor.buffer = shape, 0, name, 0
    sizes = []
    for shape in ([1, 32], [8, 4]):
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.frombuffer(np.array(shape, np.int32).tobytes(), np.uint8)
        model.buffers.append(buffer)
        tensor.shape, tensor.type, tensor.name, tensor.buffer = [2], 2, b"size", len(model.buffers) - 1
        graph.tensors.append(tensor)
        sizes.append(len(graph.tensors) - 1)
    graph.tensors += [reshaped, last]
    joined, ended = len(graph.tensors) - 2, len(graph.tensors) - 1
    index = next(i for i, code in enumerate(model.operatorCodes) if code.builtinCode == schema.BuiltinOperator.RESHAPE)
    before, after = schema.OperatorT(), schema.OperatorT()
    before.opcodeIndex = after.opcodeIndex = index
    before.inputs, before.outputs = [scores, sizes[0]], [joined]
    after.inputs, after.outputs = [softmax.outputs[0], sizes[1]], [ended]
    softmax.inputs = [joined]
    graph.operators = [*graph.operators[:-1], before, softmax, after]
    graph.outputs = [ended]
    status, found, err = evaluate(pack(model))
    assert (status, found["accuracy"]) == (2, None)
    assert "mixes the 8 images of its batch. Convert it again with a batch of 1 or a free one" in err


@pytest.mark.parametrize("channels", [1, 3])
def test_evaluate_reads_flattened_images(evaluate, channels):
    status, found, _ = evaluate(make_tiny(Tiny(UNIT, axes="flat", channels=channels)), channels=channels)
    assert (status, found["accuracy"]) == (0, 1.0)
    assert found["read_as"][0] == "float32 images, flattened row by row, channels last"


def one_colour_each() -> np.ndarray:
    """Images of one colour each: how bright they are to the classifier depends on which channel is which."""
    rng = np.random.default_rng(0)
    colours = []
    for label in LABELS:
        red = -1.0
        while not 0 <= red <= 1:
            green, blue = rng.uniform(0, 1, 2)
            red = (9 * Tiny.levels[label] - 3 * green - blue) / 5
        colours.append((red, green, blue))
    return np.rint(np.full((len(LABELS), SIDE, SIDE, 3), 255) * np.array(colours)[:, None, None]).astype(np.uint8)


def test_evaluate_refuses_flattened_channels_one_after_the_other(evaluate):
    status, found, err = evaluate(make_tiny(Tiny(UNIT, axes="flat chw")), images=one_colour_each())
    assert (status, found["accuracy"]) == (2, None)
    assert "Its flattened input seems to take a channel after the other: so it scores 100.0% of 43 of the images" in err
    # What the message says to do.
    assert evaluate(make_tiny(Tiny(UNIT, axes="nchw")), images=one_colour_each())[1]["accuracy"] == 1.0


def test_evaluate_refuses_flattened_images_of_another_length(evaluate):
    status, _, err = evaluate(make_tiny(Tiny(UNIT, axes="flat", channels=1)))
    assert status == 2
    assert "got float32 [1, 36] in" in err
    assert "and images of [6, 6, 3]. Measure it on images that are stored in the size and the channels" in err
    assert evaluate(make_tiny(Tiny(UNIT, axes="flat", channels=1)), channels=1)[1]["accuracy"] == 1.0


def test_predict_of_a_fixed_batch_equals_that_of_a_single_image():
    images = make_images(LABELS)
    tiny = Tiny(UNIT, batch=8, axes="nchw")
    eight = open_model(make_tiny(tiny), scaling=UNIT)
    one = open_model(make_tiny(Tiny(UNIT, axes="nchw")), scaling=UNIT)
    assert np.allclose(eight.predict(images), one.predict(images), atol=1e-5)
    assert np.allclose(eight.predict(images[:1]), one.predict(images[:1]), atol=1e-5)
    assert np.array_equal(eight.predict(images).argmax(axis=1), plain_classes(make_tiny(tiny), tiny, images))
    assert len(eight.latency(repeats=3, warmup=1)) == 3


def test_open_model_refuses_a_flattened_input_without_the_images_shape():
    with pytest.raises(
        ModelFileError, match=r"or the data's images flattened; got float32 \[1, 108\] in .*, and images of"
    ):
        open_model(make_tiny(Tiny(axes="flat")))
    assert open_model(make_tiny(Tiny(axes="flat")), example_shape=(6, 6, 3)).input_shape == (6, 6, 3)
