# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
import tf_keras
from support.photographs import SHAPE, pixels, residuals, shake

from learn2compress.compression.trunk.choice import (
    MARGIN,
    Budget,
    budgets_of,
    check_budgets,
    choose_side,
    choose_students,
    reference_side,
)
from learn2compress.compression.trunk.exits import find_exits
from learn2compress.compression.trunk.folding import fold_batch_norms
from learn2compress.compression.trunk.model import build_trunk_family, exit_costs, feature_model
from learn2compress.compression.trunk.narrowing import family_costs, narrow_family
from learn2compress.compression.trunk.plan import measure_exits, sides_for, student_cost
from learn2compress.compression.trunk.rebuild import rebuild
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.errors import FamilyError

CLASSES = 4


def table_of(trunk, shapes):
    rng = np.random.default_rng(1)
    images, labels = pixels(40), np.arange(40) % CLASSES
    return measure_exits(trunk, images, rng.normal(size=(40, CLASSES)), labels, shapes, 20)


def test_find_exits_lists_the_ends_of_blocks_without_and_with_the_next_expansion(trunk):
    found = [(one.channels, one.stride, bool(one.tail)) for one in trunk.exits]
    # Two blocks of 16 channels (the second a nested model), two of 24, and the last convolution as the last tail.
    assert found == [
        (16, 4, False), (64, 4, True), (16, 4, False), (64, 4, True),
        (24, 8, False), (96, 8, True), (24, 8, False), (64, 8, True),
    ]  # fmt: skip


def test_find_exits_leaves_out_places_within_a_residual_block():
    model = fold_batch_norms(rebuild(shake(residuals(tf_keras)), "teacher", SHAPE))
    exits = find_exits(model)
    assert [(one.channels, one.stride) for one in exits] == [(12, 4), (16, 8)]
    assert all(type(model.get_layer(one.layer)).__name__ == "ReLU" for one in exits)


def test_family_computes_the_features_of_its_exits_with_the_weights_of_the_teacher(trunk):
    table = table_of(trunk, [(32, 32, 3)])
    budgets = [Budget("small", int8_bytes=11_000), Budget("large", int8_bytes=30_000)]
    spec, probes = choose_students(table, budgets)
    family = build_trunk_family(trunk.model, spec, {n: (p.kernel, p.bias) for n, p in probes.items()})
    assert family.input_shape == (None, 32, 32, 3)
    images = pixels(2, 32).astype(np.float32) / 127.5 - 1
    exits = {one.name: one for one in trunk.exits}
    for student, logits in zip(spec.students, family(images), strict=True):
        features = np.asarray(feature_model(trunk.model, [exits[student.exit]], (32, 32, 3))(images))
        kept = slice(None) if student.kept is None else list(student.kept)
        expected = features[:, kept] @ probes[student.name].kernel + probes[student.name].bias
        # Features of random images hardly differ: the kernels of the probes are large, and so is round-off.
        rounding = 1e-6 * float(np.abs(probes[student.name].kernel).max())
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 + rounding)


def test_cost_counts_the_parameters_and_macs_of_the_family(trunk):
    table = table_of(trunk, [SHAPE])
    spec, _ = choose_students(table, [Budget("a", int8_bytes=12_000), Budget("b", int8_bytes=40_000)])
    family = build_trunk_family(trunk.model, spec, {})
    exits = {one.name: one for one in trunk.exits}
    for student, output in zip(spec.students, family.outputs, strict=True):
        model = tf_keras.Model(family.input, output)
        cost = student_cost(
            exits[student.exit],
            exit_costs(trunk.model, [exits[student.exit]], SHAPE)[student.exit],
            CLASSES,
            20,
            None if student.kept is None else len(student.kept),
        )
        assert cost.parameters == model.count_params()


@pytest.mark.parametrize(
    ("differences", "chosen"),
    [
        ({}, 160),
        ({96: (0.0, 0.3), 224: (-0.01, 0.3)}, 160),  # what 100 images cannot tell
        ({224: (-0.1, 0.3)}, 224),
        ({96: (0.1, 0.3), 192: (-0.2, 0.3), 224: (-0.1, 0.3)}, 192),
        ({96: (0.005, 0.0)}, 96),  # a hundredth worse, but surely not more
        ({96: (0.02, 0.0), 128: (0.005, 0.0)}, 128),
    ],
)
def test_choose_side_departs_from_a_fraction_of_the_teachers_only_if_images_tell(differences, chosen):
    signs = np.tile([1.0, -1.0], 50)
    errors = {}
    for side in (96, 128, 160, 192, 224):
        mean, deviation = differences.get(side, (0.1, 0.0))
        errors[side, side, 3] = 0.5 + (0.0 if side == 160 else 1.0) * (mean + deviation * signs)

    reference = reference_side(list(errors), 224)
    assert reference == (160, 160, 3)
    assert choose_side(errors, reference) == (chosen, chosen, 3)


@pytest.mark.parametrize(
    ("errors", "chosen", "why"),
    [
        ((0.3, 0.2), 48, "surely better than 32x32, the size next to 0.7"),
        ((0.2, 0.3), 32, "no other size is surely better"),
    ],
)
def test_choose_students_takes_the_input_whose_probes_have_a_smaller_error(trunk, errors, chosen, why):
    table = table_of(trunk, [(32, 32, 3), (48, 48, 3)])
    sides = {
        shape: [replace(row, probe=replace(row.probe, errors=np.full(40, error))) for row in table.sides[shape]]
        for shape, error in zip(table.sides, errors, strict=True)
    }
    spec, _ = choose_students(replace(table, sides=sides), [Budget("a", int8_bytes=30_000)])

    assert spec.input_shape == (chosen, chosen, 3)
    assert why in spec.why[0]
    assert f"32x32 {errors[0]:.3f}, 48x48 {errors[1]:.3f}" in spec.why[0]


def test_choose_students_takes_a_part_of_a_tail_if_no_exit_is_within_reach(trunk):
    whole = table_of(trunk, [SHAPE])
    row = next(row for row in whole.sides[SHAPE] if row.exit.trims)
    budget = Budget("a", int8_bytes=int(table_bytes(whole, row, 40) / (1 - MARGIN)) + 1)
    spec, probes = choose_students(replace(whole, sides={SHAPE: [row]}), [budget], 0.0)
    (student,) = spec.students
    assert len(student.kept) == 40
    heads = {"a": (probes["a"].kernel, probes["a"].bias)}
    family = build_trunk_family(trunk.model, spec, heads)
    assert family.get_layer(f"a_{row.exit.tail[0]}").filters == 40
    teachers = trunk.model.get_layer(row.exit.tail[0]).get_weights()[0]
    np.testing.assert_array_equal(
        family.get_layer(f"a_{row.exit.tail[0]}").get_weights()[0], teachers[..., list(student.kept)]
    )


def table_bytes(table, row, channels: int) -> int:
    return table.cost(row, channels).predicted_bytes


def test_narrow_family_removes_channels_until_each_student_fits(trunk):
    rng = np.random.default_rng(2)
    table = table_of(trunk, [SHAPE])
    spec, probes = choose_students(table, [Budget("a", int8_bytes=14_000), Budget("b", int8_bytes=60_000)])
    family = build_trunk_family(trunk.model, spec, {n: (p.kernel, p.bias) for n, p in probes.items()})
    before = family_costs(family, spec.names, 20)
    budgets = {
        name: Budget(name, int8_bytes=int(fraction * cost.predicted_bytes))
        for (name, cost), fraction in zip(before.items(), (0.98, 0.95), strict=True)
    }
    images = pixels(64)
    narrowed, left = narrow_family(
        family, spec.names, budgets, images, rng.normal(size=(64, CLASSES)).astype(np.float32), 20
    )
    after = family_costs(narrowed, spec.names, 20)
    for name, cost in after.items():
        assert budgets[name].allows(cost)
        assert left[name] < 1
    assert [layer.name for layer in narrowed.layers] == [layer.name for layer in family.layers]
    same, kept = narrow_family(
        family, spec.names, {n: Budget(n, int8_bytes=10**9) for n in before}, images, np.zeros((64, 4)), 20
    )
    assert same is family
    assert set(kept.values()) == {1.0}


def test_check_budgets_names_the_smallest_exit(trunk):
    costs = exit_costs(trunk.model, trunk.exits, SHAPE)
    with pytest.raises(
        FamilyError, match=r"students.sizes.tiny must be at least that of the teacher's smallest exit, "
    ):
        check_budgets(trunk, [Budget("tiny", int8_bytes=100)], costs, CLASSES, 20)


def test_budgets_of_refuses_an_unknown_name(trunk):
    whole = table_of(trunk, [SHAPE])
    cost = whole.cost(whole.sides[SHAPE][-1])
    assert [b.student for b in budgets_of({"large": StudentSize(), "small": StudentSize()}, cost)] == ["small", "large"]
    with pytest.raises(FamilyError, match=r"students.sizes.mine must have a size"):
        budgets_of({"mine": StudentSize()}, cost)


def test_sides_for_refuses_an_input_larger_than_the_teachers():
    with pytest.raises(FamilyError, match=r"students.input must be at most .* got 300 for 224x224"):
        sides_for((224, 224, 3), 300)
    assert sides_for((224, 224, 3), None)[-1] == (224, 224, 3)
    assert sides_for((96, 192, 3), 48) == [(48, 96, 3)]


def test_measure_exits_refuses_a_size_at_which_no_pixels_are_left(trunk):
    with pytest.raises(FamilyError, match=r"students.input must leave pixels"):
        table_of(trunk, [(4, 4, 3)])
