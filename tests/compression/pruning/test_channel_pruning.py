# SPDX-License-Identifier: Apache-2.0
"""Channels removed under a target, down to the bytes of the files."""

import numpy as np
import pytest

from learn2compress.compression.family.channels import channel_groups
from learn2compress.compression.family.model import build_family, cut_students
from learn2compress.compression.family.sizing import solve_family
from learn2compress.compression.family.spec import family_costs
from learn2compress.compression.pruning.channel_pruning import plan_channels, remove_channels
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

    plan = plan_channels(
        trained_family,
        stripes.SPEC,
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
    _, spec = remove_channels(trained_family, stripes.SPEC, plan, batches)
    assert family_costs(spec)["large"].int8_bytes <= 0.95 * family_costs(stripes.SPEC)["large"].int8_bytes


def test_plan_channels_goes_by_importance_alone_when_there_are_no_images(trained_family, stripes, batches):
    config = PruneConfig(channels={"fraction": 0.1}, criterion="magnitude")

    plan = plan_channels(trained_family, stripes.SPEC, config, batches, *NONE, LossConfig())

    assert plan.sensitivity == []
    left = sum(len(plan.kept[group.name]) for group in channel_groups(stripes.SPEC) if "large" in group.students)
    assert left <= 0.9 * (8 + 16 + 24)


@pytest.mark.slow
def test_half_the_bytes_is_half_of_the_emitted_files(stripes):
    """The default family of the demo, weights at random: int8 and float32 of the largest student."""
    spec = solve_family({name: StudentSize() for name in ("small", "medium", "large")}, (8, 8, 1), 10)
    family = build_family(spec, 0)
    rng = np.random.default_rng(0)
    for layer in family.layers:
        if layer.name.endswith("_bn"):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    images, _ = stripes.draw(64, 0)
    batches = stripes.batches(images, np.arange(64) % 10, rng.normal(size=(64, 10)).astype(np.float32))
    config = PruneConfig(channels={"bytes": 0.5})

    plan = plan_channels(family, spec, config, batches, images[:16], np.zeros(16, int), LossConfig())
    thin, thin_spec = remove_channels(family, spec, plan, batches)

    large = [cut_students(*pair)["large"] for pair in ((family, spec.students), (thin, spec.students))]
    floats = [convert_float(student, "float32").facts for student in large]
    int8 = [convert_post_training(student, "int8", images[:4]).facts for student in large]
    assert int8[1].bytes / int8[0].bytes == pytest.approx(0.5, abs=0.025)
    assert floats[1].bytes / floats[0].bytes < 0.525  # of a float file less is fixed, so it falls by more
    assert [file.macs for file in int8] == [family_costs(one)["large"].macs for one in (spec, thin_spec)]
    assert int8[1].macs < 0.6 * int8[0].macs
