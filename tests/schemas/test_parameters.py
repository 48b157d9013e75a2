# SPDX-License-Identifier: Apache-2.0
import pytest
from pydantic import ValidationError

from learn2compress.schemas import parameters
from learn2compress.schemas.config import (
    Config,
    DataConfig,
    DistillConfig,
    EvaluateConfig,
    PruneConfig,
    QuantizeConfig,
    SelectConfig,
    StudentsConfig,
    TeacherConfig,
    parse_config,
)

PATHS = {"teacher": {"path": "t.keras"}, "data": {"path": "digits"}}
OTHER = {
    "teacher": {
        "path": "/a: b/#1.keras",
        "scaling": {"mean": [1, 2.5, 3], "std": [4, 5, 6], "channel_order": "bgr"},
        "resize": True,
        "signature": "yes",
        "output": "null",
        "class_order": [2, 0, 1],
        "view_shift": 0,
        "view_flip": "no",
    },
    "data": {"path": "1.5", "format": "npz", "height": 8, "channels": 3, "classes": ["no", "1", "Käfer: x", ""]},
    "students": {"sizes": {"z": {"macs": "2M"}, "b": {"size_bytes": 98496}, "a": 2, "large": None}},
    "distill": {
        "epochs": 7,
        "temperature": 4,
        "learning_rate": 1e-5,
        "student_weights": {"z": 2, "a": 0.5},
        "patience": 3,
        "ema_decay": 0,
    },
    "prune": {
        "sparsity": 0,
        "block": "1x4",
        "channels": {"macs": "50%"},
        "criterion": "magnitude",
        "passes": ["channels", {"name": "mine", "parameters": {"step": 1e-5, "kinds": ["a: b", None], "on": True}}],
    },
    "quantize": {"epochs": 0, "variants": ["int8", "float16", "uint8"]},
    "evaluate": {"threads": [4, 1], "device_results": "phone.json"},
    "select": {"max_size": "60KB", "max_macs": "2M", "max_latency_ms": 1, "min_accuracy": 1, "objective": "knee"},
}
SECTIONS = {
    "teacher": TeacherConfig,
    "data": DataConfig,
    "students": StudentsConfig,
    "distill": DistillConfig,
    "prune": PruneConfig,
    "quantize": QuantizeConfig,
    "evaluate": EvaluateConfig,
    "select": SelectConfig,
}


@pytest.mark.parametrize("config", [parse_config(PATHS), parse_config(OTHER)], ids=["defaults", "others"])
@pytest.mark.parametrize("name", SECTIONS)
def test_sections_survive_as_parameters_of_their_declared_types(config: Config, name: str):
    section = getattr(config, name)

    encoded = parameters.encode(**{name: section})

    declared = parameters.declare(**{name: SECTIONS[name]})
    assert set(encoded) <= set(declared)
    for key, value in encoded.items():
        assert type(value) is declared[key].type, key
        assert declared[key].optional
    decoded = parameters.decode(SECTIONS[name], name, encoded)
    assert decoded == section
    for key, value in decoded.model_dump().items():
        assert type(value) is type(section.model_dump()[key]), key


def test_sections_survive_tfx_making_them_execution_properties():
    """TFX hands over what is not set as None."""
    config = parse_config(PATHS)
    properties = dict.fromkeys(parameters.declare(select=SelectConfig), None)

    properties |= parameters.encode(select=config.select)

    assert parameters.decode(SelectConfig, "select", properties) == config.select


def test_encode_reads_plainly_in_the_lineage():
    config = parse_config(OTHER)

    encoded = parameters.encode(students=config.students, quantize=config.quantize, distill=config.distill)

    assert encoded["students_sizes"] == (
        "{z: {macs: 2000000}, b: {size_bytes: 98496}, a: {multiplier: 2.0}, large: {}}"
    ), "in the order given"
    assert encoded["quantize_variants"] == "[int8, float16, uint8]"
    assert encoded["quantize_epochs"] == 0
    assert encoded["distill_temperature"] == 4.0


def test_encode_leaves_out_what_is_not_set_and_what_does_not_concern_the_node():
    config = parse_config(PATHS)

    encoded = parameters.encode(distill=config.distill, without=["distill_epochs"])

    assert "distill_patience" not in encoded
    assert "distill_epochs" not in encoded
    assert "distill_epochs" not in parameters.declare(distill=DistillConfig, without=["distill_epochs"])


def test_decode_gives_the_default_for_what_was_left_out():
    encoded = parameters.encode(distill=parse_config(OTHER).distill, without=["distill_epochs"])

    assert parameters.decode(DistillConfig, "distill", encoded).epochs == DistillConfig().epochs


def test_decode_checks_as_a_file_is_checked():
    with pytest.raises(ValidationError, match="epochs"):
        parameters.decode(DistillConfig, "distill", {"distill_epochs": -1})
