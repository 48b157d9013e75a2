# SPDX-License-Identifier: Apache-2.0
"""Files of other makers, each read in a way of its own: `evaluate` gives the right accuracy, or asks."""

import json

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support.tiny_classifiers import Tiny, described, join_signatures, make_images, make_tiny, save_npz

from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import unpack

NAMES = ("apple", "berry", "cherry", "daisy")
LABELS = np.arange(80) % 4
UNIT, CAFFE = Scaling.named("unit"), Scaling.named("caffe")


@pytest.fixture
def evaluate(type_in, tmp_path):
    """Writes files, runs `evaluate` on them, and returns its status, the records and the error output."""
    data = save_npz(tmp_path / "data.npz", make_images(LABELS), LABELS, NAMES)

    def run(*files, options=(), data=data):
        paths = [tmp_path / f"{'abc'[number]}.tflite" for number in range(len(files))]
        for path, content in zip(paths, files, strict=True):
            path.write_bytes(content)
        status, out, err = type_in("evaluate", *paths, "--data", data, "--json", "--runs", 1, *options)
        return status, json.loads(out), err

    return run


def test_evaluate_feeds_channels_first(evaluate, tmp_path):
    grey = save_npz(tmp_path / "grey.npz", make_images(LABELS, channels=1), LABELS, NAMES)
    files = [make_tiny(Tiny(UNIT, axes=axes, channels=1)) for axes in ("nchw", "nhwc", "nhw")]
    status, found, _ = evaluate(*files, data=grey, options=["--scaling", "unit"])
    assert (status, [one["accuracy"] for one in found]) == (0, [1.0] * 3)
    assert [one["read_as"][0] for one in found] == [
        "float32 images, channels first",
        "float32 images, channels last",
        "float32 images, without a channel axis",
    ]


def test_evaluate_refuses_four_channels(evaluate):
    def widen(model):
        model.subgraphs[0].tensors[0].shape = [1, 6, 6, 4]

    status, found, err = evaluate(_changed(make_tiny(Tiny()), widen))
    assert (status, found[0]["accuracy"]) == (2, None)
    assert "must take 1 or 3 channels; got 4" in err


def test_evaluate_turns_colours_around(evaluate):
    status, found, _ = evaluate(make_tiny(Tiny(CAFFE)), options=["--scaling", "caffe"])
    assert (status, found[0]["accuracy"]) == (0, 1.0)


def test_evaluate_refuses_an_assumed_scaling_where_another_does_better(evaluate):
    status, found, err = evaluate(make_tiny(Tiny(CAFFE)))
    assert (status, found[0]["accuracy"]) == (2, None)
    assert "With --scaling caffe it scores 100.0% of" in err
    assert "give --allow-near-chance" in err


def test_evaluate_measures_near_chance_where_that_is_allowed(evaluate):
    status, found, err = evaluate(make_tiny(Tiny(CAFFE)), options=["--allow-near-chance"])
    assert status == 0
    assert found[0]["accuracy"] < 0.5
    assert "With --scaling caffe it scores 100.0% of" in found[0]["warnings"][0]
    assert "warning: a: " in err


def test_evaluate_says_what_it_assumes(evaluate):
    status, found, err = evaluate(make_tiny(Tiny()))
    assert (status, found[0]["accuracy"]) == (0, 1.0)
    assert "pixels 0..255 as they are: nothing in the file says otherwise" in found[0]["read_as"]
    assert "no other scaling does better on 80 of the images. Give --scaling to be certain" in err


@pytest.mark.parametrize(
    ("scaling", "dtype", "quantization"),
    [
        ("unit", "uint8", (1 / 255, 0)),
        ("unit", "int8", (1 / 255, -128)),
        ("symmetric", "uint8", (1 / 128, 128)),
        ("symmetric", "int8", (2 / 255, -1)),
        ("none", "uint8", (1.0, 0)),
        ("none", "int8", (1.0, -128)),
    ],
)
def test_evaluate_takes_the_scaling_from_a_quantized_inputs_range(evaluate, scaling, dtype, quantization):
    file = make_tiny(Tiny(Scaling.named(scaling), dtype=dtype, quantization=quantization))
    status, found, _ = evaluate(file)
    assert (status, found[0]["accuracy"], found[0]["warnings"]) == (0, 1.0, [])
    assert f"says ({scaling})" in found[0]["read_as"][1]


def test_evaluate_refuses_a_scaling_that_clips(evaluate):
    file = make_tiny(Tiny(UNIT, dtype="uint8", quantization=(1 / 255, 0)))
    status, _, err = evaluate(file, options=["--scaling", "none"])
    assert status == 2
    assert "covers 0..1, where a scaling of none clips 99% of the 256 pixel values. Measure it without --scaling" in err


def test_evaluate_asks_where_a_range_suits_two_scalings(evaluate):
    file = make_tiny(Tiny(UNIT, dtype="int16", quantization=(1 / 32767, 0)))
    status, _, err = evaluate(file)
    assert status == 2
    assert "suits several scalings. Give --scaling symmetric or unit" in err
    status, found, _ = evaluate(file, options=["--scaling", "unit"])
    assert (status, found[0]["accuracy"]) == (0, 1.0)


def test_evaluate_reads_whole_pixels(evaluate):
    file = make_tiny(Tiny(dtype="int32"))
    assert evaluate(file)[1][0]["accuracy"] == 1.0
    status, _, err = evaluate(file, options=["--scaling", "unit"])
    assert status == 2
    assert "--scaling must be none for" in err


def test_evaluate_runs_the_serving_signature(evaluate, type_in, tmp_path):
    other = make_tiny(Tiny(levels=(0.3, 0.2, 0.8, 0.7), end=None))
    file = join_signatures(describe=other, serving_default=make_tiny(Tiny()))
    status, found, err = evaluate(file, make_tiny(Tiny()))
    assert (status, [one["accuracy"] for one in found]) == (0, [1.0, 1.0])
    assert found[0]["macs"] == found[1]["macs"] == 4 * 6 * 6 * 3
    assert "of its signatures, serving_default is measured and describe left aside" in err
    _, out, _ = type_in("inspect", tmp_path / "a.tflite", "--json")
    assert [(one["name"], one["macs"]) for one in json.loads(out)["signatures"]] == [
        ("describe", 432),
        ("serving_default", 432),
    ]


def test_evaluate_asks_for_a_signature(evaluate):
    file = join_signatures(one=make_tiny(Tiny(CAFFE)), two=make_tiny(Tiny()))
    status, _, err = evaluate(file)
    assert status == 2
    assert "must be one of one, two; got no choice" in err
    assert evaluate(file, options=["--signature", "two"])[1][0]["accuracy"] == 1.0


def test_evaluate_matches_classes_by_name(evaluate):
    order = ("cherry", "apple", "daisy", "berry")
    levels = tuple(Tiny.levels[NAMES.index(name)] for name in order)
    status, found, _ = evaluate(described(make_tiny(Tiny(levels=levels)), order))
    assert (status, found[0]["accuracy"]) == (0, 1.0)
    assert "classes matched by name, in another order than the data's" in found[0]["read_as"]


def test_evaluate_asks_where_a_file_names_other_classes(evaluate):
    file = described(make_tiny(Tiny()), ("w", "x", "y", "z"))
    status, _, err = evaluate(file)
    assert status == 2
    assert "must name the classes of the data, apple, berry, cherry and 1 more; it names w, x, y and 1 more" in err
    status, found, err = evaluate(file, options=["--classes", ",".join(NAMES)])
    assert (status, found[0]["accuracy"]) == (0, 1.0)
    assert "matched by position, as --classes says so" in err


def test_evaluate_refuses_another_order_that_nothing_names(evaluate):
    status, _, err = evaluate(make_tiny(Tiny(levels=(0.4, 0.1, 0.9, 0.6))))
    assert status == 2
    assert "Its outputs seem to stand for other classes" in err
    order = ["--classes", "berry,apple,daisy,cherry"]
    assert evaluate(make_tiny(Tiny(levels=(0.4, 0.1, 0.9, 0.6))), options=order)[1][0]["accuracy"] == 1.0


@pytest.mark.parametrize(("end", "levels"), [("LOGISTIC", (0.5,)), (None, (0.5,))])
def test_evaluate_reads_a_single_unit_as_two_classes(evaluate, tmp_path, end, levels):
    labels = np.arange(60) % 2
    two = save_npz(tmp_path / "two.npz", make_images(labels, (0.2, 0.8)), labels, ("no", "yes"))
    status, found, _ = evaluate(make_tiny(Tiny(levels=levels, end=end)), data=two)
    assert (status, found[0]["accuracy"]) == (0, 1.0)
    assert "one output unit, read as two classes" in found[0]["read_as"]


def test_evaluate_leaves_out_a_background_class_on_request(evaluate):
    file = make_tiny(Tiny(levels=(0.5, *Tiny.levels)))
    status, _, err = evaluate(file)
    assert status == 2
    assert "leave it out: --skip-class 0 where it is the first" in err
    assert evaluate(file, options=["--skip-class", "0"])[1][0]["accuracy"] == 1.0
    named = described(file, ("background", *NAMES))
    assert '--skip-class "background"' in evaluate(named)[2]
    assert evaluate(named, options=["--skip-class", "background"])[1][0]["accuracy"] == 1.0


def test_evaluate_measures_the_others_beside_bad_files(evaluate):
    good = make_tiny(Tiny())
    status, found, _ = evaluate(good[:200], good, make_tiny(Tiny(CAFFE)))
    assert status == 2
    assert [one["accuracy"] for one in found] == [None, 1.0, None]


def test_evaluate_lets_an_output_be_chosen(evaluate):
    def both(model):
        graph = model.subgraphs[0]
        graph.outputs = [graph.operators[-2].outputs[0], graph.outputs[0]]

    file = _changed(make_tiny(Tiny()), both)
    status, _, err = evaluate(file)
    assert status == 2
    assert "has 0: fully_connected [1, 4], 1: softmax [1, 4]. Choose one with --output and its index" in err
    for wanted in ("0", "softmax"):
        assert evaluate(file, options=["--output", wanted])[1][0]["accuracy"] == 1.0


def test_evaluate_refuses_scores_that_are_no_numbers(evaluate):
    status, _, err = evaluate(make_tiny(Tiny(levels=(np.nan, 0.4, 0.6, 0.9))))
    assert status == 2
    assert "must return finite scores; got NaN or infinity for 80 of 80 images" in err


def test_evaluate_warns_of_classes_without_images(evaluate, tmp_path):
    labels = LABELS % 3
    data = save_npz(tmp_path / "three.npz", make_images(labels), labels, NAMES)
    status, _, err = evaluate(make_tiny(Tiny()), data=data)
    assert status == 0
    assert "warning: no measured image is of the class daisy" in err


def test_evaluate_warns_of_labels_that_another_tool_left_out(evaluate):
    status, found, err = evaluate(pack(unpack(described(make_tiny(Tiny()), NAMES))))
    assert (status, found[0]["accuracy"]) == (0, 1.0)
    assert "its metadata name the labels labels.txt, which another tool has left out of the file" in err


def test_evaluate_reports_the_runtimes_own_words(evaluate):
    def rename(model):
        code = model.operatorCodes[-1]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = "ethos-u"

    status, _, err = evaluate(_changed(make_tiny(Tiny()), rename))
    assert status == 2
    assert "ethos-u" in err


def test_inspect_reads_scratch_memory_empty_buffers_and_odd_dimensions(type_in, tmp_path):
    def vela(model):
        code = model.operatorCodes[-1]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = "ethos-u"
        scratch = schema.TensorT()
        scratch.name, scratch.shape, scratch.type, scratch.buffer = b"scratch", [64], 3, 0
        graph = model.subgraphs[0]
        graph.tensors.append(scratch)
        graph.operators[-1].inputs = [*graph.operators[-1].inputs, len(graph.tensors) - 1]
        graph.tensors[0].quantization = schema.QuantizationParametersT()
        graph.tensors[0].quantization.scale = [1.0]
        graph.tensors[0].quantization.zeroPoint = [0]
        graph.tensors[0].quantization.quantizedDimension = 7
        model.buffers[0].data = np.zeros(0, np.uint8)

    (tmp_path / "vela.tflite").write_bytes(_changed(make_tiny(Tiny()), vela))
    status, out, _ = type_in("inspect", tmp_path / "vela.tflite", "--json")
    assert status == 0
    assert json.loads(out)["ops"]["ethos-u"] == 1
    assert json.loads(out)["custom_ops"] == ["ethos-u"]
    assert "custom operators, of which it cannot be told: ethos-u" in json.loads(out)["full_int8"]["reasons"]
    assert "without those of ethos-u, which cannot be counted" in type_in("inspect", tmp_path / "vela.tflite")[1]
    assert "must be in range [0, 4). Was 7" in json.loads(out)["arena_unknown"]


def _changed(data, change):
    model = unpack(data)
    change(model)
    return pack(model)
