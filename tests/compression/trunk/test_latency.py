# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tf_keras as keras
from support.latency import PER_MAC
from support.photographs import pixels

from learn2compress.compression.family.model import cut_students
from learn2compress.compression.students import from_teacher
from learn2compress.compression.students.from_teacher import StudentsFromTeacher
from learn2compress.compression.trunk.choice import Budget, choose_students
from learn2compress.compression.trunk.latency import network_operations
from learn2compress.compression.trunk.model import build_trunk_family
from learn2compress.compression.trunk.narrowing import family_costs
from learn2compress.compression.trunk.plan import measure_exits

CLASSES = 4


@pytest.fixture
def students(trunk):
    logits, labels = np.random.default_rng(1).normal(size=(40, CLASSES)), np.arange(40) % CLASSES
    table = measure_exits(trunk, pixels(40), logits, labels, [(32, 32, 3)], 20)
    chosen, probes = choose_students(table, [Budget("small", int8_bytes=11_000), Budget("large", int8_bytes=30_000)])
    family = build_trunk_family(trunk.model, chosen, {name: (one.kernel, one.bias) for name, one in probes.items()})
    return StudentsFromTeacher(trunk, chosen, probes, family), family


def test_network_operations_have_the_macs_of_the_student(students):
    architecture, family = students
    names = architecture.chosen.names
    costs = family_costs(family, names, 20)

    for name, student in cut_students(family, names).items():
        assert PER_MAC.file_ms(network_operations(student)) == pytest.approx(0.01 + costs[name].macs * 1e-6)


def test_network_operations_leave_out_networks_with_other_layers():
    image = keras.Input((8, 8, 3))
    assert network_operations(keras.Model(image, keras.layers.MaxPooling2D()(image))) is None


def test_description_names_latencies_once_those_of_the_machine_are_known(students, monkeypatch):
    architecture, _ = students
    monkeypatch.setattr(from_teacher, "cached_model", lambda _: None)
    before = architecture.describe()
    monkeypatch.setattr(from_teacher, "cached_model", lambda _: PER_MAC)

    (line,) = set(architecture.describe().splitlines()) - set(before.splitlines())
    assert line.startswith("latency of one thread on Abacus with beads 1, about: small 0.")
