# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.pipeline.dag import Inputs, build_pipeline
from learn2compress.schemas.config import parse_config
from learn2compress.schemas.errors import PassError


@pytest.fixture
def nodes(tmp_path):
    """Builds the nodes of a job with some settings; returns them by name."""

    def nodes(init_sha256=None, mode="fixed", fan_out=False, passes=("channels", "magnitude"), **distill):
        config = parse_config(
            {
                "teacher": {"path": "t.keras", "mode": mode},
                "data": {"path": "digits", "height": 8, "width": 8, "channels": 1},
            }
            | {"distill": distill, "kubeflow": {"fan_out": fan_out}, "prune": {"passes": list(passes)}}
        )
        inputs = Inputs("d" * 64, "7" * 64, "code", init_sha256=init_sha256)
        return {node.id: node for node in build_pipeline(config, inputs, str(tmp_path)).components}

    return nodes


def test_teacher_importer_computes_features_only_when_students_are_initialized_by_them(nodes):
    plain, features = nodes()["TeacherImporter"], nodes(init="features")["TeacherImporter"]

    assert (plain.exec_properties["features"], features.exec_properties["features"]) == (0, 1)


def test_distiller_receives_the_digest_of_the_initial_students(nodes):
    made = nodes(init="earlier", init_sha256="a" * 64)

    assert made["Distiller"].exec_properties["distill_init"] == "earlier"
    assert made["Distiller"].exec_properties["init_sha256"] == "a" * 64
    assert made["TeacherImporter"].exec_properties["features"] == 0
    assert "init_sha256" not in nodes()["Distiller"].exec_properties


@pytest.mark.parametrize("fan_out", [False, True])
def test_nodes_after_distiller_use_the_logits_of_a_fixed_teacher(nodes, fan_out):
    made = nodes(fan_out=fan_out)

    assert set(made["Distiller"].outputs) == {"students"}
    taught = {name: node for name, node in made.items() if "teacher_logits" in node.inputs}
    assert {name.partition("-")[0] for name in taught} == {"Distiller", "Pruner", "Quantizer", "TFLiteEvaluator"}
    assert {node.inputs["teacher_logits"].producer_component_id for node in taught.values()} == {"TeacherImporter"}


@pytest.mark.parametrize("fan_out", [False, True])
def test_nodes_after_distiller_use_the_logits_of_a_jointly_trained_teacher(nodes, fan_out):
    made = nodes(mode="joint", fan_out=fan_out)

    for name, node in made.items():
        if name.startswith(("Pruner", "Quantizer")):
            logits = node.inputs["teacher_logits"]
            assert (logits.producer_component_id, logits.output_key) == ("Distiller", "trained_teacher_logits")
    for name in ("Distiller", "TFLiteEvaluator"):
        assert made[name].inputs["teacher_logits"].producer_component_id == "TeacherImporter"


def test_teacher_is_converted_once_when_each_student_has_separate_tasks(nodes):
    made = nodes(fan_out=True)

    variants = {n: made[f"Quantizer-{n}"].exec_properties["quantize_teacher_variants"] for n in ("small", "large")}
    assert variants == {"small": "[float16, dynamic, int8]", "large": "[]"}


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
