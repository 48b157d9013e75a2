# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tf_keras as keras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.networks import networks, randomize

from learn2compress.compression.channels.costs import KINDS, Costs
from learn2compress.compression.channels.groups import find_channels
from learn2compress.compression.channels.removal import remove_channels
from learn2compress.compression.family.channels import with_widths
from learn2compress.compression.family.model import build_family
from learn2compress.compression.family.sizing import solve_family
from learn2compress.compression.family.spec import family_costs
from learn2compress.compression.pruning.prunable import prunable
from learn2compress.compression.quantization.conversion import convert_post_training
from learn2compress.compression.quantization.on_device import write_file
from learn2compress.modalities import modality_named
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.manifests import Task

L = keras.layers


def figures(costs, widths=None):
    return {kind: row.tolist() for kind, row in zip(KINDS, costs.at(widths).figures, strict=True)}


@pytest.mark.parametrize("blocks", ["by_stage", "separable"])
@pytest.mark.parametrize("narrower", [False, True])
def test_costs_equal_those_of_the_specification_of_the_built_in_family(narrower, blocks):
    sizes = {name: StudentSize() for name in ("small", "medium", "large")}
    spec = solve_family(sizes, (32, 32, 3), 10, 77, blocks)
    students = prunable(build_family(spec), spec.students, spec)
    widths = {group.name: group.width - 4 * narrower * (n % 3) for n, group in enumerate(students.groups)}

    found = figures(students.costs, list(widths.values()))

    expected = family_costs(with_widths(spec, widths)).values()
    assert found["bytes"] == [cost.int8_bytes for cost in expected]
    assert found["macs"] == [cost.macs for cost in expected]
    assert found["parameters"] == [cost.parameters for cost in expected]


@settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(model=networks(), data=st.data())
def test_costs_after_changes_equal_those_of_the_pruned_model(model, data):
    """Widths changed one at a time, against all of them at once, and against a model that was built with them."""
    channels = find_channels(model)
    state = Costs(channels).at()
    widths = [data.draw(st.integers(1, group.width)) for group in channels.groups]
    for index, width in enumerate(widths):
        expected = state.changed(index, width)
        state.change(index, width)
        np.testing.assert_array_equal(state.figures, expected)

    np.testing.assert_array_equal(state.figures, Costs(channels).at(widths).figures)
    kept = {group.name: np.arange(width) for group, width in zip(channels.groups, widths, strict=True)}
    pruned = Costs(find_channels(remove_channels(channels, kept))).at().figures
    for kind in ("bytes", "macs", "parameters"):
        np.testing.assert_array_equal(pruned[KINDS.index(kind)], state.figures[KINDS.index(kind)])


def mixture():
    """A network with every kind of connection of known architectures, of some 100 KB."""
    image = keras.Input((32, 32, 3))
    x = L.Conv2D(24, 3, 2, "same", activation="relu")(image)
    for width in (32, 48):
        y = L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same", use_bias=False)(x))
        y = L.ReLU(6.0)(y)
        x = L.Concatenate()([x, L.Conv2D(width, 1, activation="swish")(y)])
        y = L.ReLU()(L.BatchNormalization()(x))
        y = L.Conv2D(64, 1, padding="same", use_bias=False)(y)
        gate = L.Dense(16, "relu")(L.GlobalAveragePooling2D()(y))
        gate = L.Reshape((1, 1, 64))(L.Dense(64, "sigmoid")(gate))
        y = L.Multiply()([y, gate])
        x = L.Add()([L.Conv2D(64, 1)(x), y])
        x = L.SeparableConv2D(96, 3, padding="same", activation="relu")(L.ZeroPadding2D(1)(x))
        x = L.MaxPooling2D(2)(L.Conv2D(64, 3, groups=4, padding="same")(x))
    x = L.Dense(64, "relu")(L.Flatten()(L.AveragePooling2D(2)(x)))
    return keras.Model(image, L.Dense(10)(x))


def test_costs_predict_the_bytes_and_macs_of_a_file(tmp_path):
    model = mixture()
    randomize(model, 0)
    task = Task(input_shape=(32, 32, 3), classes=[str(i) for i in range(10)])
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)

    found = figures(Costs(find_channels(model), 2 * 10))

    file = convert_post_training(model, "int8", images)
    written = write_file(tmp_path, "it-int8", file, task, "a test", modality_named().student_input.normalization)
    assert found["bytes"] == [pytest.approx(written.bytes, rel=0.03)]
    assert found["macs"] == [file.facts.macs]
    assert found["parameters"] == [pytest.approx(file.facts.parameters, rel=0.01)]


def test_costs_count_weights_of_a_layer_that_is_not_understood():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, L.Dense(2)(L.GRU(8)(L.Reshape((8, 24))(L.Conv2D(3, 1)(image)))))

    found = figures(Costs(find_channels(model)))

    gru = 3 * (24 * 8 + 8 * 8 + 2 * 8)
    assert found["bytes"][0] > gru
    assert found["macs"] == [64 * 9 + 16]
