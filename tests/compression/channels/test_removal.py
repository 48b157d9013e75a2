# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tf_keras as keras
from support.networks import silence

from learn2compress.compression.channels.removal import mean_inputs, remove_channels
from learn2compress.compression.family.channels import with_widths
from learn2compress.compression.family.model import build_family, cut_students, normalize
from learn2compress.compression.family.spec import Branch, Conv, FamilySpec, Fused, Separable, family_costs
from learn2compress.compression.pruning.prunable import prunable

KEPT = {
    "stem": np.array([0, 2, 5, 7]),
    "small_tail1": np.arange(4, 16),
    "trunk2_1": np.arange(0, 16, 2),
    "large_tail1": np.arange(12),
}


@pytest.fixture
def images(stripes):
    return normalize(stripes.draw(16, 4)[0])


def prune(family, spec, kept, images):
    """Removes channels from a family; returns it with its shape."""
    students = prunable(family, spec.students, spec)
    pruned = remove_channels(students.channels, kept, mean_inputs(students.channels, [images]))
    return pruned, with_widths(spec, {group: len(units) for group, units in kept.items()})


def silent(family, spec, kept):
    """Sets the channels that are not kept to zero."""
    silence(prunable(family, spec.students, spec).channels, kept)


def test_remove_channels_keeps_the_logits_when_removed_channels_were_zero(trained_family, stripes, images):
    silent(trained_family, stripes.SPEC, KEPT)

    pruned, spec = prune(trained_family, stripes.SPEC, KEPT, images)

    for before, after in zip(trained_family(images), pruned(images), strict=True):
        assert np.ptp(before) > 1
        np.testing.assert_allclose(after, before, atol=1e-5)
    assert [block.filters for block in spec.path("large")] == [4, 4, 8, 8, 12]


def test_remove_channels_supports_every_kind_of_block_and_residual_sums(images):
    """Blocks of all kinds, with and without stride, residual directly and behind a dense one, all ends."""
    spec = FamilySpec(
        (8, 8, 1),
        5,
        (Conv("stem", 8), Separable("again", 8), Fused("once", 8), Conv("down", 12, stride=2, kernel=5)),
        (
            Branch("tiny", (), ()),
            Branch("small", (Separable("s1", 12), Separable("s2", 12)), (Separable("st", 12),)),
            Branch("large", (Conv("l1", 16), Separable("l2", 16)), (Fused("lt", 20, stride=2), Separable("lt2", 20))),
        ),
    )
    family, rng = build_family(spec, 3), np.random.default_rng(0)
    for layer in family.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    groups = prunable(family, spec.students, spec).groups
    assert [group.layers for group in groups] == [
        ("stem", "again", "once"),
        ("down", "s1", "s2", "st"),
        ("l1", "l2"),
        ("lt", "lt2"),
    ]
    kept = {group.name: np.sort(rng.permutation(group.width)[: group.width - 4]) for group in groups}
    silent(family, spec, kept)

    pruned, pruned_spec = prune(family, spec, kept, images)

    for before, after in zip(family(images), pruned(images), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    assert pruned.count_params() < family.count_params()
    rebuilt = build_family(pruned_spec)
    assert [weight.name for weight in pruned.weights] == [weight.name for weight in rebuilt.weights]
    assert [weight.shape for weight in pruned.weights] == [weight.shape for weight in rebuilt.weights]


def test_remove_channels_adds_the_mean_of_a_removed_channel_to_its_readers(trained_family, stripes, images):
    """Removing a constant channel does not change the logits, even if it is not zero."""
    kept = {"large_tail1": np.arange(4, 24)}
    norm = trained_family.get_layer("large_tail1_pw_bn")
    scale, offset, *statistics = norm.get_weights()
    scale[:4], offset[:4] = 0, 3
    norm.set_weights([scale, offset, *statistics])

    pruned, _ = prune(trained_family, stripes.SPEC, kept, images)

    np.testing.assert_allclose(pruned(images)[1], trained_family(images)[1], atol=1e-5)


def test_remove_channels_copies_weights_and_statistics_of_kept_channels(trained_family, stripes, images):
    kept = {"trunk2_1": np.array([1, 3, 5, 7, 8, 9, 10, 15])}

    pruned, spec = prune(trained_family, stripes.SPEC, kept, images)

    old, new = (model.get_layer("trunk2_1_pw_bn").get_weights() for model in (trained_family, pruned))
    for before, after in zip(old, new, strict=True):
        np.testing.assert_array_equal(after, before[kept["trunk2_1"]])
    np.testing.assert_array_equal(
        pruned.get_layer("trunk2_2_dw").get_weights()[0],
        trained_family.get_layer("trunk2_2_dw").get_weights()[0][:, :, kept["trunk2_1"]],
    )
    np.testing.assert_array_equal(pruned(images)[0], trained_family(images)[0])
    for name, student in cut_students(pruned, spec.students).items():
        kernels = sum(w.shape.num_elements() for w in student.trainable_variables if "kernel" in w.name)
        assert kernels + sum(family_outputs(spec, name)) + len(stripes.CLASSES) == family_costs(spec)[name].parameters


def family_outputs(spec, student):
    """Channels of each convolution on a student's path, each of which has a bias after folding of the normalization."""
    channels = spec.input_shape[2]
    for block in spec.path(student):
        yield from [block.filters] if isinstance(block, Conv) else [channels, block.filters]
        channels = block.filters


def test_mean_inputs_are_means_over_images_and_pixels(trained_family, images):
    channels = prunable(trained_family, ("small", "large")).channels
    means = mean_inputs(channels, [images[:10], images[10:]])

    probe = keras.Model(trained_family.input, trained_family.get_layer("trunk2_1_pw").input)
    np.testing.assert_allclose(means["trunk2_1_pw"], np.mean(probe(images), axis=(0, 1, 2)), rtol=1e-4)
    assert "trunk2_1_dw" not in means
