# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tf_keras as keras

from learn2compress.compression.family.model import build_family, cut_students, feature_outputs, normalize
from learn2compress.compression.family.sizing import solve_family
from learn2compress.compression.family.spec import student_cost
from learn2compress.schemas.config import StudentSize


@pytest.fixture(scope="module")
def family(stripes):
    return build_family(stripes.SPEC, seed=1)


def folded_parameters(model: keras.Model) -> int:
    """Count kernel weights and one bias per output channel, as after batch normalization is folded."""
    kernels = [w for w in model.trainable_weights if w.name.endswith("kernel:0")]
    biases = [w for w in model.trainable_weights if w.name.endswith(("beta:0", "bias:0"))]
    return sum(int(np.prod(w.shape)) for w in kernels + biases)


def test_build_family_gives_logits_for_each_student_smallest_first(family, stripes):
    outputs = family(np.zeros((5, *stripes.SHAPE), np.float32))

    assert [tuple(output.shape) for output in outputs] == [(5, 3), (5, 3)]
    assert [tensor.node.layer.name for tensor in family.outputs] == ["small_logits", "large_logits"]


@pytest.mark.parametrize("shape", [(8, 8, 1), (16, 12, 3), (32, 32, 3)])
def test_build_family_has_the_predicted_parameters(shape):
    spec = solve_family({"small": StudentSize(), "large": StudentSize()}, shape, 7)

    for name, model in cut_students(build_family(spec), spec.students).items():
        assert folded_parameters(model) == student_cost(spec, name).parameters


def test_build_family_has_the_predicted_parameters_when_blocks_are_fused(stripes):
    family = build_family(stripes.FUSED)

    for name, model in cut_students(family, stripes.FUSED.students).items():
        assert folded_parameters(model) == student_cost(stripes.FUSED, name).parameters


def test_build_family_adds_the_input_of_a_fused_block_when_its_shape_is_kept(stripes):
    layers = build_family(stripes.FUSED).layers

    assert [layer.name for layer in layers if isinstance(layer, keras.layers.Add)] == ["trunk1_1_add", "trunk2_2_add"]
    fused = next(layer for layer in layers if layer.name == "trunk1_1")
    assert (type(fused), fused.kernel_size) == (keras.layers.Conv2D, (3, 3))


def test_build_family_depends_only_on_the_seed(stripes, family):
    same, other = build_family(stripes.SPEC, seed=1), build_family(stripes.SPEC, seed=2)

    for a, b in zip(family.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [[w.numpy() for w in m.weights if "kernel" in w.name] for m in (family, other)]
    assert not any(np.array_equal(a, b) for a, b in zip(*kernels, strict=True))


def test_build_family_initializes_each_layer_differently():
    """A common seed would give layers of equal shape equal kernels."""
    spec = solve_family({"small": StudentSize(), "large": StudentSize()}, (8, 8, 1), 3)
    kernels = [w.numpy() for w in build_family(spec).weights if "kernel" in w.name]

    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


def test_cut_students_are_the_familys_outputs_by_name(family, stripes):
    images = np.random.default_rng(0).uniform(-1, 1, (4, *stripes.SHAPE)).astype(np.float32)
    expected = dict(zip(stripes.SPEC.students, family(images), strict=True))

    students = cut_students(family, stripes.SPEC.students)

    assert list(students) == ["small", "large"]
    for name, student in students.items():
        assert student.name == name
        np.testing.assert_array_equal(student(images), expected[name])


def test_cut_students_share_variables_and_a_change_of_one_changes_the_other(stripes):
    family = build_family(stripes.SPEC, seed=1)
    small, large = cut_students(family, stripes.SPEC.students).values()
    images = np.random.default_rng(0).uniform(-1, 1, (4, *stripes.SHAPE)).astype(np.float32)
    before = small(images).numpy()

    assert large.get_layer("trunk1_1_pw").kernel is small.get_layer("trunk1_1_pw").kernel
    large.get_layer("trunk1_1_pw").kernel.assign_add(np.ones((1, 1, 8, 8)))

    assert not np.allclose(small(images), before)
    assert {w.ref() for w in small.weights} - {w.ref() for w in large.weights} == {
        w.ref() for w in small.weights if w.name.startswith("small_")
    }


def test_cut_students_accepts_a_family_of_one(family, stripes):
    alone = cut_students(family, stripes.SPEC.students)["large"]

    again = cut_students(alone, ("large",))["large"]

    assert again.output_shape == (None, 3)


def test_feature_outputs_are_the_inputs_of_the_logits_layers(family, stripes):
    features = feature_outputs(family, stripes.SPEC.students)

    assert [tensor.shape[-1] for tensor in features] == [16, 24]


def test_normalize_scales_pixels_to_minus_one_to_one():
    normalized = normalize(np.array([0, 127, 128, 255], np.uint8)).numpy()

    np.testing.assert_allclose(normalized, [-1, -0.5 / 127.5, 0.5 / 127.5, 1], atol=1e-7)
    assert normalized.dtype == np.float32
