# SPDX-License-Identifier: Apache-2.0
"""Files like those of test_cases.py, with one thing changed each: read aright, or refused with a remedy that works."""

import json

import numpy as np
import pytest
from support.tiny_classifiers import Tiny, described, join_signatures, make_images, make_tiny, save_npz

from learn2compress.schemas.scaling import Scaling

NAMES = ("apple", "berry", "cherry", "daisy")
ORDER = ("cherry", "apple", "daisy", "berry")
IN_ORDER = Tiny(levels=tuple(Tiny.levels[NAMES.index(name)] for name in ORDER))
LABELS = np.arange(80) % 4
UNIT, SYMMETRIC = Scaling.named("unit"), Scaling.named("symmetric")


@pytest.fixture
def evaluate(type_in, tmp_path):
    """Runs `evaluate` on a file, and returns its status, the record and the error output."""
    data = save_npz(tmp_path / "data.npz", make_images(LABELS), LABELS, NAMES)

    def run(content, *options):
        (tmp_path / "a.tflite").write_bytes(content)
        status, out, err = type_in("evaluate", tmp_path / "a.tflite", "--data", data, "--json", "--runs", 1, *options)
        return status, json.loads(out)[0], err

    return run


@pytest.mark.parametrize("names", [("Cherry", "APPLE", "  daisy ", "berry"), ("CHERRY", "Apple", "daisy", "Berry")])
def test_evaluate_matches_names_whatever_their_case_and_spaces(evaluate, names):
    status, found, _ = evaluate(described(make_tiny(IN_ORDER), names))
    assert (status, found["accuracy"]) == (0, 1.0)
    assert "classes matched by name, in another order than the data's" in found["read_as"]


@pytest.mark.parametrize(
    "names",
    [("n01 cherry", "n02 apple", "n03 daisy", "n04 berry"), ("apple", "apple", "daisy", "berry"), tuple("0123")],
)
def test_evaluate_asks_for_classes_where_names_differ(evaluate, names):
    status, _, err = evaluate(described(make_tiny(IN_ORDER), names))
    assert status == 2
    assert "give the data's names in the order of the outputs with --classes" in err
    assert evaluate(described(make_tiny(IN_ORDER), names), "--classes", ",".join(ORDER))[1]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point"),
    [("uint8", 1 / 127.5, 128), ("uint8", 1 / 127.5, 127), ("int8", 1 / 127.5, 0), ("int8", 1 / 128, 0)],
)
def test_evaluate_reads_pixels_from_minus_one_to_one_off_the_range(evaluate, dtype, scale, zero_point):
    status, found, _ = evaluate(make_tiny(Tiny(SYMMETRIC, dtype=dtype, quantization=(scale, zero_point))))
    assert (status, found["accuracy"], found["warnings"]) == (0, 1.0, [])


def test_evaluate_reads_sixteen_bits_that_cover_pixels(evaluate):
    assert evaluate(make_tiny(Tiny(dtype="int16", quantization=(255 / 32767, 0))))[1]["accuracy"] == 1.0
    assert evaluate(make_tiny(Tiny(dtype="int16")))[1]["accuracy"] == 1.0


def test_evaluate_feeds_float16(evaluate):
    status, _, err = evaluate(make_tiny(Tiny(UNIT, dtype="float16")))
    assert status == 2
    assert "With --scaling unit it scores 100.0%" in err
    status, found, _ = evaluate(make_tiny(Tiny(UNIT, dtype="float16")), "--scaling", "unit")
    assert (status, found["accuracy"], found["read_as"][0]) == (0, 1.0, "float16 images, channels last")


def test_evaluate_refuses_int8_without_a_scale(evaluate):
    status, _, err = evaluate(make_tiny(Tiny(dtype="int8")))
    assert status == 2
    assert "Convert it with quantization parameters at its input" in err
    assert evaluate(make_tiny(Tiny(dtype="int8", quantization=(1.0, -128))))[1]["accuracy"] == 1.0


def test_evaluate_leaves_out_a_background_class_at_the_end(evaluate):
    file = make_tiny(Tiny(levels=(*Tiny.levels, 0.5)))
    status, _, err = evaluate(file)
    assert status == 2
    assert "--skip-class 4 where it is the last" in err
    assert evaluate(file, "--skip-class", 4)[1]["accuracy"] == 1.0
    named = described(make_tiny(Tiny(levels=(*IN_ORDER.levels, 0.5))), (*ORDER, "Background"))
    assert '--skip-class "Background"' in evaluate(named)[2]
    assert evaluate(named, "--skip-class", "background")[1]["accuracy"] == 1.0


def test_evaluate_measures_the_chosen_signature_with_its_own_order(evaluate):
    file = join_signatures(train=make_tiny(Tiny()), infer=make_tiny(IN_ORDER))
    assert "must be one of train, infer; got no choice" in evaluate(file)[2]
    status, _, err = evaluate(file, "--signature", "infer")
    assert status == 2
    assert "Give --classes in the order of its outputs" in err
    assert evaluate(file, "--signature", "infer", "--classes", ",".join(ORDER))[1]["accuracy"] == 1.0
    assert evaluate(file, "--signature", "train")[1]["accuracy"] == 1.0


def test_evaluate_warns_of_a_sigmoid_for_each_class(evaluate):
    _, found, _ = evaluate(make_tiny(Tiny(end="LOGISTIC")), "--scaling", "none")
    assert "its outputs are separate yes-or-no probabilities (sigmoid): the largest counts" in found["warnings"][0]
