# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tf_keras as keras

from learn2compress.compression.family.channels import channel_groups
from learn2compress.compression.family.model import build_family, cut_students, normalize
from learn2compress.compression.family.spec import Branch, Conv, FamilySpec, Separable, family_costs
from learn2compress.compression.pruning.channel_removal import build_pruned_family, mean_inputs, tensor_groups
from learn2compress.schemas.errors import FamilyError

KEPT = {
    "stem": np.array([0, 2, 5, 7]),
    "small_tail1": np.arange(4, 16),
    "trunk2_1": np.arange(0, 16, 2),
    "large_tail1": np.arange(12),
}


@pytest.fixture
def images(stripes):
    return normalize(stripes.draw(16, 4)[0])


def silence(family, groups, kept):
    """Sets the output of all channels that are not kept to zero, by scale and offset."""
    for group in groups:
        gone = np.setdiff1d(np.arange(group.width), kept.get(group.name, np.arange(group.width)))
        for block in group.blocks:
            for layer in family.layers:
                made = layer.name in (f"{block}_bn", f"{block}_pw_bn")
                if made and isinstance(layer, keras.layers.BatchNormalization):
                    scale, offset, *statistics = layer.get_weights()
                    scale[gone] = offset[gone] = 0
                    layer.set_weights([scale, offset, *statistics])


def test_build_pruned_family_keeps_the_logits_when_removed_channels_were_zero(trained_family, stripes, images):
    silence(trained_family, channel_groups(stripes.SPEC), KEPT)

    pruned, spec = build_pruned_family(trained_family, stripes.SPEC, KEPT, mean_inputs(trained_family, [images]))

    for before, after in zip(trained_family(images), pruned(images), strict=True):
        assert np.ptp(before) > 1
        np.testing.assert_allclose(after, before, atol=1e-5)
    assert [block.filters for block in spec.path("large")] == [4, 4, 8, 8, 12]


def test_build_pruned_family_supports_every_kind_of_block_and_residual_sums(images):
    """Dense and separable blocks, with and without stride, residual directly and behind a dense one, all ends."""
    spec = FamilySpec(
        (8, 8, 1),
        5,
        (Conv("stem", 8), Separable("again", 8), Conv("down", 12, stride=2, kernel=5)),
        (
            Branch("tiny", (), ()),
            Branch("small", (Separable("s1", 12), Separable("s2", 12)), (Separable("st", 12),)),
            Branch("large", (Conv("l1", 16), Separable("l2", 16)), (Conv("lt", 20, stride=2), Separable("lt2", 20))),
        ),
    )
    family, rng = build_family(spec, 3), np.random.default_rng(0)
    for layer in family.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    groups = channel_groups(spec)
    assert [group.blocks for group in groups] == [
        ("stem", "again"),
        ("down", "s1", "s2", "st"),
        ("l1", "l2"),
        ("lt", "lt2"),
    ]
    kept = {group.name: np.sort(rng.permutation(group.width)[: group.width - 4]) for group in groups}
    silence(family, groups, kept)

    pruned, pruned_spec = build_pruned_family(family, spec, kept, mean_inputs(family, [images]))

    for before, after in zip(family(images), pruned(images), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    assert pruned.count_params() < family.count_params()
    assert FamilySpec.from_dict(pruned_spec.to_dict()) == pruned_spec


def test_build_pruned_family_adds_the_mean_of_a_removed_channel_to_its_readers(trained_family, stripes, images):
    """Removing a constant channel does not change the logits, even if it is not zero."""
    kept = {"large_tail1": np.arange(4, 24)}
    norm = trained_family.get_layer("large_tail1_pw_bn")
    scale, offset, *statistics = norm.get_weights()
    scale[:4], offset[:4] = 0, 3
    norm.set_weights([scale, offset, *statistics])

    pruned, _ = build_pruned_family(trained_family, stripes.SPEC, kept, mean_inputs(trained_family, [images]))

    np.testing.assert_allclose(pruned(images)[1], trained_family(images)[1], atol=1e-5)


def test_build_pruned_family_copies_weights_and_statistics_of_kept_channels(trained_family, stripes, images):
    kept = {"trunk2_1": np.array([1, 3, 5, 7, 8, 9, 10, 15])}

    pruned, spec = build_pruned_family(trained_family, stripes.SPEC, kept, mean_inputs(trained_family, [images]))

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


def test_build_pruned_family_refuses_widths_that_change_the_connections(images):
    spec = FamilySpec((8, 8, 1), 2, (Conv("stem", 8),), (Branch("only", (Separable("a", 16),), ()),))
    family = build_family(spec)

    with pytest.raises(FamilyError, match="widths must leave each block residual or not, as it was"):
        build_pruned_family(family, spec, {"a": np.arange(8)}, mean_inputs(family, [images]))


def test_tensor_groups_refuse_a_layer_whose_channels_cannot_be_followed(stripes):
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Flatten(name="flat")(image))

    with pytest.raises(
        FamilyError, match=r"layer 'flat' must be one whose channels can be followed; got a Flatten of 1"
    ):
        tensor_groups(model, stripes.SPEC)


def test_tensor_groups_refuse_a_layer_of_no_block(stripes):
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, name="stranger")(image))

    with pytest.raises(FamilyError, match="layer 'stranger' must be part of a block of the family"):
        tensor_groups(model, stripes.SPEC)


def test_mean_inputs_are_means_over_images_and_pixels(trained_family, images):
    means = mean_inputs(trained_family, [images[:10], images[10:]])

    probe = keras.Model(trained_family.input, trained_family.get_layer("trunk2_1_pw").input)
    np.testing.assert_allclose(means["trunk2_1_pw"], np.mean(probe(images), axis=(0, 1, 2)), rtol=1e-4)
    assert "trunk2_1_dw" not in means
