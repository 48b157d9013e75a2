# SPDX-License-Identifier: Apache-2.0
"""The specification of the students is solved for once in a process."""

from learn2compress.compression.students import architecture
from learn2compress.compression.students.architecture import design
from learn2compress.schemas.config import FamilyConfig
from learn2compress.schemas.manifests import Task


def test_design_solves_equal_sizes_once(monkeypatch):
    calls = []
    solve = architecture.solve_family
    monkeypatch.setattr(architecture, "solve_family", lambda *arguments: calls.append(arguments) or solve(*arguments))
    sizes = {"small": {"size_bytes": 7001}, "large": {"size_bytes": 14001}}
    task = Task(input_shape=(8, 8, 1), classes=["a", "b"])

    specs = [design(FamilyConfig(sizes=sizes), None, task, {}).spec for _ in range(2)]
    other = design(FamilyConfig(sizes=sizes), None, task.model_copy(update={"classes": ["a", "b", "c"]}), {}).spec
    turned = design(FamilyConfig(sizes=dict(reversed(sizes.items()))), None, task, {}).spec

    assert specs[0] is specs[1]
    assert (other.classes, turned) == (3, specs[0])
    assert len(calls) == 3


def test_design_makes_a_family_of_the_requested_kinds_of_block():
    sizes = {"small": {"size_bytes": 20_000}, "large": {"size_bytes": 90_000}}
    task = Task(input_shape=(32, 32, 3), classes=["a", "b"])

    found = {
        blocks: design(FamilyConfig(sizes=sizes, blocks=blocks), None, task, {}).spec.to_dict()["stem"]
        for blocks in ("by_stage", "separable")
    }

    assert [block["kind"] for block in found["by_stage"]] == ["conv", "fused"]
    assert [block["kind"] for block in found["separable"]] == ["conv", "separable", "separable", "separable"]
