# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest
from pydantic import ValidationError

from learn2compress.schemas import parameters
from learn2compress.schemas.config import (
    Config,
    DataConfig,
    DistillConfig,
    EvaluateConfig,
    LossConfig,
    PruneConfig,
    QuantizeConfig,
    SelectConfig,
    StudentsConfig,
    TeacherConfig,
    parse_config,
)
from learn2compress.schemas.errors import ConfigError

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
def test_decode_returns_encoded_sections_with_parameters_of_the_declared_types(config: Config, name: str):
    section = getattr(config, name)

    encoded = parameters.encode(**{name: section})

    types = parameters.scalar_types(**{name: SECTIONS[name]})
    assert set(encoded) <= set(types)
    for key, value in encoded.items():
        assert type(value) is types[key], key
    decoded = parameters.decode(SECTIONS[name], name, encoded)
    assert decoded == section
    for key, value in decoded.model_dump().items():
        assert type(value) is type(section.model_dump()[key]), key


def test_decode_ignores_parameters_that_are_none():
    """TFX hands over what is not set as None."""
    config = parse_config(PATHS)
    properties = dict.fromkeys(parameters.scalar_types(select=SelectConfig), None)

    properties |= parameters.encode(select=config.select)

    assert parameters.decode(SelectConfig, "select", properties) == config.select


def test_encode_writes_readable_values():
    config = parse_config(OTHER)

    encoded = parameters.encode(students=config.students, quantize=config.quantize, distill=config.distill)

    assert encoded["students_sizes"] == (
        "{z: {macs: 2000000}, b: {size_bytes: 98496}, a: {multiplier: 2.0}, large: {}}"
    ), "in the order given"
    assert encoded["quantize_variants"] == "[int8, float16, uint8]"
    assert encoded["quantize_epochs"] == 0
    assert encoded["distill_temperature"] == 4.0


def test_encode_omits_fields_that_are_not_set():
    assert "distill_patience" not in parameters.encode(distill=parse_config(PATHS).distill)


def test_part_of_a_section_has_the_parameters_of_its_own_fields_alone():
    config = parse_config(OTHER)

    encoded = parameters.encode(distill=LossConfig.part_of(config.distill))

    assert set(encoded) == {f"distill_{field}" for field in LossConfig.model_fields}
    assert encoded.items() <= parameters.encode(distill=config.distill).items()
    assert parameters.decode(LossConfig, "distill", encoded).student_weights == {"z": 2, "a": 0.5}


def test_decode_uses_the_default_of_a_missing_parameter():
    encoded = parameters.encode(distill=parse_config(OTHER).distill)
    del encoded["distill_epochs"]

    assert parameters.decode(DistillConfig, "distill", encoded).epochs == DistillConfig().epochs


def test_decode_understands_the_former_parameter_names_of_earlier_runs():
    recorded = {"quantize_rescue": 1, "quantize_rescue_drop": 0.25, "quantize_rescue_layers": 2}

    quantize = parameters.decode(QuantizeConfig, "quantize", recorded)
    teacher = parameters.decode(TeacherConfig, "teacher", {"teacher_path": "t.keras", "teacher_insist": 1})

    assert (quantize.mixed_precision, quantize.mixed_precision_drop, quantize.mixed_precision_layers) == (True, 0.25, 2)
    assert teacher.allow_near_chance
    encoded = parameters.encode(quantize=quantize, teacher=teacher)
    assert (encoded["quantize_mixed_precision_drop"], encoded["teacher_allow_near_chance"]) == (0.25, 1)
    assert not {*recorded, "teacher_insist"} & set(encoded)


@pytest.mark.parametrize(("present", "expected"), [(None, True), (0, False)])
def test_decode_takes_the_present_name_of_a_parameter_before_the_former_one(present, expected):
    given = {"quantize_mixed_precision": present, "quantize_rescue": 1}

    assert parameters.decode(QuantizeConfig, "quantize", given).mixed_precision is expected


def test_decode_refuses_an_invalid_value():
    with pytest.raises(ValidationError, match="epochs"):
        parameters.decode(DistillConfig, "distill", {"distill_epochs": -1})


def test_codec_imports_no_tfx():
    code = "import sys, learn2compress.schemas.parameters; sys.exit('tfx' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("section", "kind", "field", "default", "other"),
    [("teacher", TeacherConfig, "trust", False, True), ("data", DataConfig, "max_pixels", 120_000_000, 5)],
)
def test_encode_leaves_out_a_field_that_is_hardly_ever_changed(section, kind, field, default, other):
    usual = kind.model_validate({"path": "a", field: default})
    unusual = kind.model_validate({"path": "a", field: other})
    name = f"{section}_{field}"

    assert name not in parameters.encode(**{section: usual})
    assert parameters.encode(**{section: unusual})[name] == other
    assert parameters.decode(kind, section, parameters.encode(**{section: usual})) == usual
    assert parameters.decode(kind, section, parameters.encode(**{section: unusual})) == unusual


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[&a [1, 1], *a]", r"parameter data_classes must be written out without aliases"),
        ("[" * 5000, r"parameter data_classes must be nested at most"),
        ("[a", r"parameter data_classes must be YAML; "),
        ("!!python/object/apply:os.system [true]", r"parameter data_classes must be YAML"),
    ],
)
def test_decode_refuses_a_text_that_is_no_plain_value(text, message):
    with pytest.raises(ConfigError, match=rf"^{message}.*Take the record from its source again\.$"):
        parameters.decode(DataConfig, "data", {"data_path": "digits", "data_classes": text})
