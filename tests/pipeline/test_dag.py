# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.pipeline.dag import Inputs, build_pipeline
from learn2compress.schemas.config import parse_config
from learn2compress.schemas.errors import PassError


@pytest.fixture
def nodes(tmp_path):
    """The nodes of a job with some settings of the distillation, by name."""

    def nodes(init_sha256=None, passes=("channels", "magnitude"), **distill):
        config = parse_config(
            {"teacher": {"path": "t.keras"}, "data": {"path": "digits", "height": 8, "width": 8, "channels": 1}}
            | {"distill": distill, "prune": {"passes": list(passes)}}
        )
        inputs = Inputs("d" * 64, "7" * 64, "code", init_sha256=init_sha256)
        return {node.id: node for node in build_pipeline(config, inputs, str(tmp_path)).components}

    return nodes


def test_teacher_importer_computes_features_only_if_students_are_initialized_by_them(nodes):
    plain, features = nodes()["TeacherImporter"], nodes(init="features")["TeacherImporter"]

    assert (plain.exec_properties["features"], features.exec_properties["features"]) == (0, 1)


def test_distiller_receives_the_digest_of_the_initial_students(nodes):
    made = nodes(init="earlier", init_sha256="a" * 64)

    assert made["Distiller"].exec_properties["distill_init"] == "earlier"
    assert made["Distiller"].exec_properties["init_sha256"] == "a" * 64
    assert made["TeacherImporter"].exec_properties["features"] == 0
    assert "init_sha256" not in nodes()["Distiller"].exec_properties


def test_nodes_after_the_distiller_learn_from_the_same_logits(nodes):
    made = nodes()

    for name in ("Distiller", "Pruner", "Quantizer"):
        assert made[name].inputs["teacher_logits"].producer_component_id == "TeacherImporter"
    for name in ("Pruner", "Quantizer"):
        assert made[name].inputs["trained_teacher_logits"].producer_component_id == "Distiller"


def test_pruner_misses_the_cache_when_the_code_of_an_installed_pass_changes(nodes, example_pass):
    before = nodes(passes=["magnitude", "kernel_grid"])["Pruner"].exec_properties
    module = example_pass / "kernel_grid.py"
    module.write_text(module.read_text().replace("31", "15"))

    after = nodes(passes=["magnitude", "kernel_grid"])["Pruner"].exec_properties

    assert {key for key in before if before[key] != after[key]} == {"pass_versions"}
    assert before["prune_passes"] == "[magnitude, kernel_grid]"
    assert before["pass_versions"].startswith("kernel_grid: learn2compress-kernel-grid 0.2.0+")
    assert not nodes()["Pruner"].exec_properties.get("pass_versions")


def test_pipeline_is_not_built_with_a_pass_that_is_not_installed(nodes):
    with pytest.raises(PassError, match=r"prune\.passes must name passes that are installed: channels, magnitude.*'m"):
        nodes(passes=["mine"])
