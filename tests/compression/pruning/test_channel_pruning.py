# SPDX-License-Identifier: Apache-2.0
"""Channel pruning to a target, including the bytes of the written files."""

import numpy as np
import pytest

from learn2compress.compression.family.model import build_family, cut_students
from learn2compress.compression.family.sizing import solve_family
from learn2compress.compression.family.spec import family_costs
from learn2compress.compression.pruning.channel_pruning import plan_channels, without_channels
from learn2compress.compression.pruning.prunable import prunable
from learn2compress.compression.quantization.conversion import convert_float, convert_post_training
from learn2compress.schemas.config import LossConfig, PruneConfig, StudentSize

NONE = (np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, int))


@pytest.fixture
def batches(stripes):
    images, labels = stripes.draw(96, 0)
    return stripes.batches(images, labels, stripes.StripesTeacher().logits(images))


def test_plan_channels_keeps_the_most_important_ones(trained_family, stripes, batches):
    norm = trained_family.get_layer("large_tail1_pw_bn")
    scale, offset, *statistics = norm.get_weights()
    scale[5:13] = offset[5:13] = 0
    norm.set_weights([scale, offset, *statistics])

    students = prunable(trained_family, stripes.SPEC.students, stripes.SPEC)
    plan = plan_channels(
        students,
        PruneConfig(channels={"bytes": 0.95}),
        batches,
        *stripes.draw(33, 1),
        LossConfig(),
    )

    assert {group.group: group.kept for group in plan.sensitivity} == {g: len(k) for g, k in plan.kept.items()}
    assert plan.kept["stem"] == list(range(8))
    kept = plan.kept["large_tail1"]
    assert kept == sorted(kept)
    removed, dead = set(range(24)) - set(kept), set(range(5, 13))
    assert removed
    assert removed <= dead or dead <= removed
    _, spec = without_channels(students, plan, batches)
    assert family_costs(spec)["large"].int8_bytes <= 0.95 * family_costs(stripes.SPEC)["large"].int8_bytes


def test_plan_channels_uses_importance_alone_when_there_are_no_images(trained_family, stripes, batches):
    config = PruneConfig(channels={"fraction": 0.1}, criterion="magnitude")

    students = prunable(trained_family, stripes.SPEC.students, stripes.SPEC)

    plan = plan_channels(students, config, batches, *NONE, LossConfig())

    assert plan.sensitivity == []
    left = sum(len(plan.kept[group.name]) for group in students.groups if "large" in group.students)
    assert left <= 0.9 * (8 + 16 + 24)


@pytest.mark.slow
def test_target_of_half_the_bytes_halves_the_written_files(stripes):
    """The int8 and float32 files of the largest student of the demo's family with random weights."""
    spec = solve_family({name: StudentSize() for name in ("small", "medium", "large")}, (8, 8, 1), 10)
    family = build_family(spec, 0)
    rng = np.random.default_rng(0)
    for layer in family.layers:
        if layer.name.endswith("_bn"):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    images, _ = stripes.draw(64, 0)
    batches = stripes.batches(images, np.arange(64) % 10, rng.normal(size=(64, 10)).astype(np.float32))
    config = PruneConfig(channels={"bytes": 0.5})

    students = prunable(family, spec.students, spec)
    plan = plan_channels(students, config, batches, images[:16], np.zeros(16, int), LossConfig())
    pruned, pruned_spec = without_channels(students, plan, batches)

    large = [cut_students(*pair)["large"] for pair in ((family, spec.students), (pruned, spec.students))]
    floats = [len(convert_float(student, "float32").to_bytes()) for student in large]
    int8 = [convert_post_training(student, "int8", images[:4]) for student in large]
    before, after = (len(file.to_bytes()) for file in int8)
    assert after / before == pytest.approx(0.5, abs=0.025)
    assert floats[1] / floats[0] < 0.525  # a smaller part of a float file does not depend on the channels
    macs = [file.facts.macs for file in int8]
    assert macs == [family_costs(one)["large"].macs for one in (spec, pruned_spec)]
    assert macs[1] < 0.6 * macs[0]
