# SPDX-License-Identifier: Apache-2.0
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from learn2compress.compression.family.spec import (
    Branch,
    Conv,
    Cost,
    FamilySpec,
    Fused,
    Separable,
    branch_choices,
    family_costs,
    is_residual,
    make_stem,
    segment_side,
    shared_parameters,
    stem_side,
    student_cost,
)
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.errors import FamilyError

NAMED = {"small": StudentSize(), "medium": StudentSize(), "large": StudentSize()}


@pytest.fixture(scope="module")
def predicted_costs():
    """Import the benchmark as a module."""
    path = Path(__file__).parents[3] / "benchmarks/predicted_costs.py"
    spec = importlib.util.spec_from_file_location("predicted_costs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_student_cost_by_hand(stripes):
    # 8x8x1 -> conv 3x3 to 8; separable 8 to 8 (residual); separable 8 to 16 with a stride, so 4x4; 3 classes.
    stem, trunk, tail, logits = 9 * 8, 9 * 8 + 8 * 8, 9 * 8 + 8 * 16, 16 * 3
    biases = 8 + (8 + 8) + (8 + 16) + 3

    cost = student_cost(stripes.SPEC, "small")

    assert cost.parameters == stem + trunk + tail + logits + biases
    assert cost.macs == 64 * (stem + trunk) + 4 * 4 * tail + logits
    file, convolutions, additions, channels, bias, widths = 2000, 5 * 246, 57, 12 * (8 + 16 + 24), 4 * 3, 8 * (8 + 16)
    weights = stem + trunk + tail + logits
    assert cost.int8_bytes == file + convolutions + additions + channels + bias + widths + weights


def test_student_cost_of_fused_blocks_by_hand(stripes):
    # 8x8x1 -> conv 3x3 to 8; fused 8 to 16 with a stride, so 4x4; fused 16 to 16 (residual); separable 16 to 24.
    stem, down, trunk, tail, logits = 9 * 8, 9 * 8 * 16, 9 * 16 * 16, 9 * 16 + 16 * 24, 24 * 3
    biases = 8 + 16 + 16 + (16 + 24) + 3

    cost = student_cost(stripes.FUSED, "small")

    assert cost.parameters == stem + down + trunk + tail + logits + biases
    assert cost.macs == 64 * stem + 16 * (down + trunk + tail) + logits
    file, convolutions, additions, channels, bias, widths = 2000, 5 * 246, 57, 12 * 80, 4 * 3, 8 * (8 + 16 + 24)
    weights = stem + down + trunk + tail + logits
    assert cost.int8_bytes == file + convolutions + additions + channels + bias + widths + weights


def test_student_cost_rounds_a_strided_side_up():
    spec = FamilySpec((5, 7, 3), 2, (Conv("stem", 8, stride=2),), (Branch("only", (), ()),))

    assert student_cost(spec, "only").macs == 3 * 4 * (9 * 3 * 8) + 8 * 2


def test_student_cost_adds_labels_only_to_the_file_size(stripes):
    plain, labelled = (student_cost(replace(stripes.SPEC, label_bytes=n), "large") for n in (0, 100))

    assert labelled == replace(plain, int8_bytes=plain.int8_bytes + 100)


def test_path_of_a_student_is_the_trunk_up_to_its_exit_and_its_own_tail(stripes):
    names = [block.name for block in stripes.SPEC.path("large")]

    assert names == ["stem", "trunk1_1", "trunk2_1", "trunk2_2", "large_tail1"]
    assert [block.name for block in stripes.SPEC.path("small")] == ["stem", "trunk1_1", "small_tail1"]


def test_family_costs_are_of_each_student_smallest_first(stripes):
    costs = family_costs(stripes.SPEC)

    assert list(costs) == ["small", "large"]
    assert all(isinstance(cost, Cost) for cost in costs.values())
    assert costs["large"] == student_cost(stripes.SPEC, "large")


def test_shared_parameters_are_counted_once(stripes):
    costs = family_costs(stripes.SPEC)
    stem_and_trunk = (9 * 8 + 8) + (9 * 8 + 8 + 8 * 8 + 8)

    family, apart = shared_parameters(stripes.SPEC)

    assert apart == costs["small"].parameters + costs["large"].parameters
    assert family == apart - stem_and_trunk


@pytest.mark.parametrize(
    ("block", "channels", "residual"),
    [
        (Separable("b", 16), 16, True),
        (Separable("b", 16, 2), 16, False),
        (Separable("b", 16), 8, False),
        (Conv("b", 16), 16, False),
        (Fused("b", 16), 16, True),
        (Fused("b", 16, 2), 16, False),
        (Fused("b", 16), 8, False),
    ],
)
def test_is_residual_when_shapes_agree(block, channels, residual):
    assert is_residual(block, channels) is residual


@pytest.mark.parametrize("name", ["SPEC", "FUSED"])
def test_spec_is_equal_after_json_round_trip(stripes, name):
    spec = replace(getattr(stripes, name), label_bytes=7)

    assert FamilySpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("broken", ["classes", "stem", "branches", "label_bytes"])
def test_spec_refuses_a_description_with_a_missing_field(stripes, broken):
    tree = stripes.SPEC.to_dict()
    del tree[broken]

    with pytest.raises(FamilyError, match=f"must have input_shape, classes, .*{broken}"):
        FamilySpec.from_dict(tree)


def test_spec_refuses_an_unknown_kind_of_block(stripes):
    tree = stripes.SPEC.to_dict()
    tree["stem"][0]["kind"] = "lstm"

    with pytest.raises(FamilyError, match="lstm"):
        FamilySpec.from_dict(tree)


@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ((4, 4, 1), 4),
        ((8, 8, 1), 8),
        ((16, 16, 3), 16),
        ((28, 28, 1), 14),
        ((32, 32, 3), 16),
        ((64, 64, 3), 16),
        ((96, 64, 3), 16),
        ((224, 224, 3), 14),
    ],
)
def test_stem_reduces_to_about_14_pixels(shape, side):
    stem = make_stem(shape, 24)

    assert stem_side(shape, stem) == side
    assert stem[-1].filters == 24
    assert all(block.filters % 8 == 0 for block in stem)


def test_stem_starts_with_a_strided_dense_convolution_when_the_image_is_large():
    assert make_stem((8, 8, 1), 24) == (Conv("stem", 24),)
    assert make_stem((32, 32, 3), 24) == (
        Conv("stem", 16),
        Separable("fine1", 16),
        Separable("fine2", 16),
        Separable("down1", 24, stride=2),
    )
    assert [(type(b), b.stride) for b in make_stem((224, 224, 3), 24)] == [
        (Conv, 2),
        (Separable, 2),
        (Separable, 2),
        (Separable, 1),
        (Separable, 1),
        (Separable, 2),
    ]


def test_stem_refuses_images_below_4x4():
    with pytest.raises(FamilyError, match=r"at least 4x4; got 3x9\. Set data\.height and data\.width"):
        make_stem((3, 9, 1), 8)


def test_branch_choices_never_narrow_and_never_go_below_4x4():
    for branch in branch_choices("s", 1, side=8, min_width=16, max_width=40):
        assert branch.segment[0].filters >= 16
        side = segment_side(8, branch)
        for block in branch.tail:
            side = -(-side // block.stride)
        assert side >= 4
    strides = [[block.stride for block in branch.tail] for branch in branch_choices("s", 1, 4, 16, 16)]
    assert {1} == {stride for tail in strides for stride in tail}


def test_branch_choices_name_blocks_by_index_and_student():
    branch = next(b for b in branch_choices("medium", 1, 16, 8) if len(b.segment) == 2 and len(b.tail) == 2)

    assert [block.name for block in branch.segment] == ["trunk2_1", "trunk2_2"]
    assert [block.name for block in branch.tail] == ["medium_tail1", "medium_tail2"]


# One case each for square and oblong images, grey and colour, few and many classes; the benchmark has more.
@pytest.mark.parametrize(
    ("shape", "classes", "sizes", "blocks"),
    [
        ((8, 8, 1), 10, NAMED, "separable"),
        ((12, 20, 3), 100, {"a": StudentSize(size_bytes="16KB"), "b": StudentSize(macs="3M")}, "by_stage"),
        pytest.param((32, 32, 3), 10, NAMED, "by_stage", marks=pytest.mark.slow),
        pytest.param((64, 48, 3), 5, NAMED, "separable", marks=pytest.mark.slow),
        pytest.param((64, 64, 3), 1000, NAMED, "by_stage", marks=pytest.mark.slow),
    ],
)
def test_predicted_costs_agree_with_the_int8_file(predicted_costs, shape, classes, sizes, blocks):
    rows = list(predicted_costs.compare([(shape, classes, sizes, blocks)]))

    assert [row["student"] for row in rows] == list(sizes)
    assert all(row["exact"] for row in rows), "parameters, MACs and operations, after batch normalization is folded"
    assert all(abs(row["error"]) <= 0.05 for row in rows), rows


def test_predicted_bytes_are_an_upper_bound_of_the_quantization_aware_file(stripes, trained_family):
    """A budget applies to the final files, whichever way they were quantized."""
    from support.tflite_files import write_metadata

    from learn2compress.compression.family.model import cut_students, normalize
    from learn2compress.compression.family.sizing import label_bytes
    from learn2compress.compression.quantization.conversion import convert_quantization_aware
    from learn2compress.compression.quantization.qat import calibrate, quantization_aware

    aware = quantization_aware(trained_family, keep_zeros=False)
    calibrate(aware, trained_family, [normalize(stripes.draw(32, 0)[0])])
    spec = replace(stripes.SPEC, label_bytes=label_bytes(stripes.CLASSES))
    for name, student in cut_students(aware, spec.students).items():
        data = write_metadata(
            convert_quantization_aware(student, "int8").to_bytes(),
            name=f"{name}-int8",
            description="Image classifier of 3 classes, distilled by Learn2Compress.",
            labels=stripes.CLASSES,
            mean=[127.5],
            std=[127.5],
        )
        predicted = student_cost(spec, name).int8_bytes
        assert len(data) <= predicted <= 1.05 * len(data)


def test_fused_family_is_full_int8_and_has_the_predicted_costs_when_trained_for_8_bits(stripes, tmp_path):
    import tensorflow as tf

    from learn2compress.compression.family.model import build_family, cut_students, normalize
    from learn2compress.compression.quantization.conversion import convert_quantization_aware
    from learn2compress.compression.quantization.qat import calibrate, quantization_aware
    from learn2compress.tflite.model_file import prove_full_int8, read_model_file

    family = build_family(stripes.FUSED, seed=1)
    aware = quantization_aware(family, keep_zeros=False)
    calibrate(aware, family, [normalize(stripes.draw(32, 0)[0])])
    for variable in aware.trainable_variables:
        if variable.name.endswith("bias:0"):  # the converter leaves out a bias of zeros
            variable.assign(tf.fill(variable.shape, 0.1))
    for name, student in cut_students(aware, stripes.FUSED.students).items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(convert_quantization_aware(student, "int8").to_bytes())
        file, cost = read_model_file(path), student_cost(stripes.FUSED, name)
        assert prove_full_int8(file).holds
        assert (file.parameters, file.macs) == (cost.parameters, cost.macs)
