# SPDX-License-Identifier: Apache-2.0
"""Tests the passes of the Pruner: their order, an empty sequence, and a pass of an installed package."""

import re
from pathlib import Path

import numpy as np
import pytest
from tfx.types import standard_artifacts

from learn2compress.components.pruner import Pruner, PrunerExecutor
from learn2compress.compression.pruning.magnitude import kernel_sparsity
from learn2compress.compression.pruning.passes import pass_versions
from learn2compress.compression.students.files import load_model
from learn2compress.compression.training.history.curves import read_curves
from learn2compress.schemas import parameters
from learn2compress.schemas.artifacts import StudentSet, TeacherLogits
from learn2compress.schemas.config import DistillConfig, PruneConfig
from learn2compress.schemas.errors import PassError
from learn2compress.schemas.manifests import StudentSetManifest, read_manifest

DISTILL = DistillConfig(batch_size=32, temperature=2.0)
DOCS = Path(__file__).parents[2] / "docs" / "explanation" / "pruning.md"
MODULE = Path(__file__).parents[1] / "support" / "example_pass" / "kernel_grid.py"


@pytest.fixture
def run(stripes_artifacts, distilled, artifact, tmp_path):
    """Executes the node without a runner; returns the manifest and the family."""

    def run(prune: PruneConfig, versions: str | None = None):
        output = artifact(StudentSet, tmp_path / "Pruner/pruned_students/1")
        inputs = {
            "examples": [artifact(standard_artifacts.Examples, stripes_artifacts[0])],
            "teacher_logits": [artifact(TeacherLogits, stripes_artifacts[1])],
            "students": [artifact(StudentSet, distilled)],
        }
        properties = Pruner.encode(prune=prune, distill=DISTILL)
        properties |= {"seed": 1, "code_version": "1"} | ({"pass_versions": versions} if versions else {})
        PrunerExecutor().Do(inputs, {"pruned_students": [output]}, properties)
        manifest = read_manifest(output.uri, StudentSetManifest)
        return manifest, load_model(output.uri, manifest.family)

    return run


def test_pruner_prunes_nothing_without_passes(run, distilled):
    manifest, family = run(PruneConfig(passes=[]))

    before = read_manifest(distilled, StudentSetManifest)
    for ours, theirs in zip(family.get_weights(), load_model(distilled, before.family).get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert manifest.notes == ["a note", "no pruning: prune.passes is empty"]
    assert [student.validation_accuracy for student in manifest.students] == [1.0, 1.0]


def test_pruner_runs_the_passes_in_the_order_given(run, tmp_path):
    target = {"channels": {"bytes": 0.9}, "channel_epochs": 1, "epochs": 1, "sensitivity_images": 0}

    manifest, family = run(PruneConfig(passes=["magnitude", "channels"], **target))

    assert "magnitude pruning" in manifest.notes[1]
    assert "taylor pruning of channels" in manifest.notes[2]
    curves = read_curves(tmp_path / "Pruner/pruned_students/1")
    assert [epoch.stage for epoch in curves] == ["distilled", "pruned", "thinned"]
    assert kernel_sparsity(family) < 0.45  # the zeros were not kept, which is the reason for the default order


@pytest.mark.usefixtures("example_pass")
def test_pruner_runs_a_pass_of_an_installed_package_after_a_built_in_one(run):
    prune = PruneConfig(
        passes=["magnitude", {"name": "kernel_grid", "parameters": {"levels": 3}}], epochs=1, sensitivity_images=0
    )
    versions = pass_versions(prune)

    manifest, family = run(prune, versions)

    assert re.fullmatch(r"kernel_grid: learn2compress-kernel-grid 0\.2\.0\+[0-9a-f]{12}", versions)
    for name in ("stem", "trunk1_1_pw", "large_logits"):
        kernel = family.get_layer(name).kernel.numpy()
        np.testing.assert_allclose(3 * kernel / np.abs(kernel).max(), np.round(3 * kernel / np.abs(kernel).max()))
    assert kernel_sparsity(family) >= 0.5
    assert manifest.notes[2] == "rounded the kernels of 8 layers"
    assert manifest.notes[3].startswith("pass kernel_grid of learn2compress-kernel-grid 0.2.0+")
    assert manifest.notes[3].endswith(" with {levels: 3}")
    encoded = parameters.encode(prune=prune)
    assert encoded["prune_passes"] == "[magnitude, {name: kernel_grid, parameters: {levels: 3}}]"


def test_pruner_measures_the_accuracy_after_a_pass_that_trains_nothing(run, declare_pass):
    declare_pass("forgetting", FORGETTING, forget="Forget")

    manifest, _ = run(PruneConfig(passes=["forget"]))

    assert all(student.validation_accuracy == pytest.approx(1 / 3) for student in manifest.students)


FORGETTING = """
from learn2compress.compression.pruning.passes import Pass

class Forget(Pass):
    name = "forget"

    def run(self, work, context):
        for weight in work.family.weights:
            weight.assign(0 * weight)
        return work
"""


def test_pruner_refuses_a_pass_whose_code_differs_from_the_recorded_version(run, example_pass):
    prune = PruneConfig(passes=["kernel_grid"])
    recorded = pass_versions(prune)
    module = example_pass / "kernel_grid.py"
    module.write_text(module.read_text().replace("np.round", "np.floor"))

    with pytest.raises(PassError, match=r"must be those that the run started with, kernel_grid: .* wherever"):
        run(prune, recorded)


def test_docs_show_the_source_of_the_example_pass():
    blocks = re.findall(r"```(python|toml)\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)

    shown = dict(blocks)
    assert "# SPDX-License-Identifier: Apache-2.0\n" + shown["python"] == MODULE.read_text(encoding="utf-8")
    assert shown["toml"] == (MODULE.parent / "pyproject.toml").read_text(encoding="utf-8")
