# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from support.networks import silence
from tf_keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from learn2compress.compression.channels.groups import ChannelGroup, find_channels
from learn2compress.compression.channels.removal import remove_channels
from learn2compress.compression.family.model import block_of, build_family

L = keras.layers


def build(body, shape=(8, 8, 3)):
    """A model with an image, a body and a dense layer of three classes behind global pooling."""
    image = keras.Input(shape)
    x = body(image)
    if len(x.shape) == 4:
        x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, L.Dense(3, name="logits")(x))


def conv(width, name, **options):
    return L.Conv2D(width, 1, name=name, **options)


def widths(channels):
    return {group.name: group.width for group in channels.groups}


def axis(channels, layer, weight, axis):
    (found,) = [a for a in channels.axes if (a.layer, a.weight, a.axis) == (layer, weight, axis)]
    return found.placement


def test_find_channels_groups_what_a_residual_sum_adds():
    def body(x):
        x = conv(8, "a")(x)
        y = L.DepthwiseConv2D(3, padding="same", name="dw")(conv(12, "b")(x))
        return L.Add()([x, conv(8, "c")(L.ReLU()(y))])

    channels = find_channels(build(body))

    assert channels.groups == (
        ChannelGroup("a", ("a", "c"), 8, ("logits",)),
        ChannelGroup("b", ("b",), 12, ("logits",)),
    )
    assert channels.kept == ()
    np.testing.assert_array_equal(axis(channels, "dw", 0, 2).group, np.full(12, 1))
    np.testing.assert_array_equal(axis(channels, "logits", 0, 0).group, np.zeros(8))


def test_find_channels_groups_what_a_scaled_residual_sum_adds():
    def body(x):
        x = conv(8, "a")(x)
        return CustomScaleLayer(0.2)([x, conv(8, "c")(conv(12, "b")(x))])

    model = build(body)
    channels = find_channels(model)

    assert channels.groups == (
        ChannelGroup("a", ("a", "c"), 8, ("logits",)),
        ChannelGroup("b", ("b",), 12, ("logits",)),
    )
    assert channels.kept == ()
    kept = {"a": np.array([0, 3, 6])}
    pruned = remove_channels(channels, kept)
    silence(channels, kept)
    images = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:]))
    np.testing.assert_allclose(pruned(images), model(images), atol=1e-5)


def test_find_channels_places_concatenated_channels_behind_each_other():
    def body(x):
        parts = [conv(4, "a")(x), conv(6, "b")(x)]
        return L.BatchNormalization(name="norm")(L.Concatenate()(parts))

    channels = find_channels(build(body))

    assert widths(channels) == {"a": 4, "b": 6}
    for place in (axis(channels, "norm", 0, 0), axis(channels, "logits", 0, 0)):
        np.testing.assert_array_equal(place.group, [0] * 4 + [1] * 6)
        np.testing.assert_array_equal(place.unit, [0, 1, 2, 3, 0, 1, 2, 3, 4, 5])


def test_find_channels_divides_a_layer_whose_parts_go_different_ways():
    def body(x):
        x = conv(10, "a")(x)
        return L.Concatenate()([L.Add()([x[..., :4], conv(4, "b")(x)]), x[..., 4:]])

    channels = find_channels(build(body))

    assert [(group.name, group.layers, group.width) for group in channels.groups] == [
        ("a", ("a", "b"), 4),
        ("a/2", ("a",), 6),
    ]


def test_find_channels_reads_a_flattened_channel_once_for_each_pixel():
    channels = find_channels(build(lambda x: L.Flatten()(L.MaxPooling2D(4)(conv(5, "a")(x)))))

    place = axis(channels, "logits", 0, 0)
    np.testing.assert_array_equal(place.unit, np.tile(np.arange(5), 4))
    assert place.counts(1)[1].tolist() == [4]


def test_find_channels_couples_the_factors_of_squeeze_and_excitation():
    def body(x):
        x = conv(8, "a")(x)
        y = L.Reshape((1, 1, 8))(L.Dense(8, "sigmoid", name="up")(L.Dense(4, "relu", name="down")(pooled(x))))
        return L.Multiply()([x, y])

    pooled = L.GlobalAveragePooling2D()

    assert [group.layers for group in find_channels(build(body)).groups] == [("a", "up"), ("down",)]


@pytest.mark.parametrize(
    ("groups", "inside", "expected"),
    [(8, 2, {"a": (8, 2)}), (2, 4, {"a": (4, 2), "b": (6, 2)})],
    ids=["many narrow groups are removed whole", "few wide ones keep their number"],
)
def test_find_channels_couples_the_groups_of_a_convolution(groups, inside, expected):
    body = lambda x: conv(12 if groups == 2 else 16, "b", groups=groups)(conv(groups * inside, "a")(x))  # noqa: E731

    found = find_channels(build(body)).groups

    assert {group.name: (group.width, group.step) for group in found} == expected


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (L.LayerNormalization(name="it"), "it (LayerNormalization) normalizes over the channels"),
        (L.Lambda(lambda x: x, name="it"), "it (Lambda) is of a class whose channels cannot be followed"),
        (L.Softmax(name="it"), "it (Softmax) is of a class whose channels cannot be followed"),
        (L.Activation("softmax", name="it"), "it (Activation) has an activation that is not known"),
        (L.Reshape((8, 8, 4, 2), name="it"), "it (Reshape) divides the channels between axes"),
        (L.Permute((3, 1, 2), name="it"), "it (Permute) moves the channels to another axis"),
        (L.Rescaling(np.arange(8.0), name="it"), "it (Rescaling) has a factor or offset for each channel"),
        (lambda x: tf.roll(x, 1, -1), "tf.roll (TFOpLambda) is the operation roll, which is not known"),
        (lambda x: x * np.ones(8, np.float32), "has a constant for each channel"),
        (lambda x: x[..., ::2], "has a slice with a step"),
    ],
)
def test_find_channels_keeps_what_hangs_on_a_layer_that_cannot_be_followed(layer, why):
    def body(x):
        x = L.Add()([conv(8, "a")(x), conv(8, "b")(conv(4, "free")(x))])
        return L.Flatten()(layer(x))

    channels = find_channels(build(body))

    assert widths(channels) == {"free": 4}
    (kept,) = channels.kept
    assert why in str(kept)
    assert str(kept).endswith(": 16 channels stay")


def test_find_channels_keeps_the_channels_of_weights_that_two_calls_share():
    shared = conv(8, "shared")

    channels = find_channels(build(lambda x: shared(conv(4, "c")(shared(conv(4, "a")(x))))))

    assert channels.groups == ()
    assert {str(kept) for kept in channels.kept} == {
        "shared (Conv2D) has weights that are shared by several calls: 8 channels stay"
    }


def test_find_channels_follows_an_activation_that_two_calls_share():
    relu = L.ReLU()

    assert widths(find_channels(build(lambda x: relu(conv(6, "b")(relu(conv(4, "a")(x))))))) == {"a": 4, "b": 6}


def test_find_channels_names_the_students_that_contain_a_group():
    image = keras.Input((8, 8, 3))
    trunk = conv(8, "trunk")(image)
    ends = [conv(4, "early")(trunk), conv(6, "late")(conv(8, "more")(trunk))]
    model = keras.Model(image, [L.Dense(2)(L.GlobalMaxPooling2D()(end)) for end in ends])

    channels = find_channels(model, ("small", "large"))

    assert {group.name: group.students for group in channels.groups} == {
        "trunk": ("small", "large"),
        "early": ("small",),
        "more": ("large",),
        "late": ("large",),
    }


def test_find_channels_finds_the_groups_of_the_built_in_family(stripes):
    channels = find_channels(build_family(stripes.SPEC), stripes.SPEC.students)

    blocks = [
        (tuple(block_of(stripes.SPEC, layer).name for layer in g.layers), g.width, g.students) for g in channels.groups
    ]
    assert sorted(blocks) == [
        (("large_tail1",), 24, ("large",)),
        (("small_tail1",), 16, ("small",)),
        (("stem", "trunk1_1"), 8, ("small", "large")),
        (("trunk2_1", "trunk2_2"), 16, ("large",)),
    ]
    assert channels.kept == ()


@pytest.mark.parametrize(("width", "min_width"), [(4, 4), (8, 8), (24, 8), (96, 12), (100, 12), (320, 32)])
def test_min_width_is_eight_or_a_tenth_in_multiples_of_four(width, min_width):
    assert ChannelGroup("g", ("g",), width, ("s",)).min_width == min_width
