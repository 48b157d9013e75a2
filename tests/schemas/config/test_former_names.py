# SPDX-License-Identifier: Apache-2.0
"""Keys that were renamed: the former names keep working, and no key is given under both."""

from pathlib import Path

import pytest

from learn2compress.schemas.config import load_config, parse_config
from learn2compress.schemas.config.config import section_types
from learn2compress.schemas.config.reading.former_names import FORMER_NAMES
from learn2compress.schemas.errors import ConfigError

PATHS = {"teacher": {"path": "t.keras"}, "data": {"path": "digits"}}
MINIMAL = "teacher: {path: t.keras}\ndata: {path: digits}\n"


@pytest.fixture
def config_file(tmp_path):
    """Writes a configuration file."""

    def write(text: str) -> Path:
        path = tmp_path / "c.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_former_names_refer_to_fields_and_are_no_fields():
    for section, names in FORMER_NAMES.items():
        fields = section_types()[section].model_fields
        assert set(names.values()) <= set(fields)
        assert not set(names) & set(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"quantize": {"rescue": True, "mixed_precision": False}},
            r"^config: quantize: mixed_precision must be given once; got mixed_precision and its former name rescue\.",
        ),
        (
            {"teacher": {"path": "t", "insist": True, "allow_near_chance": True}},
            r"teacher: allow_near_chance must be given once; .* former name insist\. Remove insist\.$",
        ),
        (
            {"quantize": {"rescue_dorp": 0.1}},
            r"quantize\.rescue_dorp is no known key\. Did you mean mixed_precision_drop \(formerly rescue_drop\)\?",
        ),
        (
            {"quantize": {"mixed_precison": True}},
            r"quantize\.mixed_precison is no known key\. Did you mean mixed_precision\?",
        ),
    ],
)
def test_parse_config_refuses_both_names_of_a_key_and_suggests_present_names(change, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(PATHS | change)


@pytest.mark.parametrize(
    ("section", "former", "name", "value"),
    [
        ("teacher", "insist", "allow_near_chance", True),
        ("quantize", "rescue", "mixed_precision", True),
        ("quantize", "rescue_drop", "mixed_precision_drop", 0.5),
        ("quantize", "rescue_layers", "mixed_precision_layers", 9),
    ],
)
def test_former_key_sets_the_field_of_its_present_name(config_file, section, former, name, value):
    config = parse_config(PATHS | {section: PATHS.get(section, {}) | {former: value}})

    assert getattr(getattr(config, section), name) == value
    assert former not in config.model_dump()[section]
    assert getattr(load_config(config_file(MINIMAL), [f"{section}.{former}={value}"]), section) == getattr(
        load_config(config_file(MINIMAL), [f"{section}.{name}={value}"]), section
    )


@pytest.mark.parametrize(("in_file", "override"), [("rescue", "mixed_precision"), ("mixed_precision", "rescue")])
def test_override_replaces_a_key_of_the_file_under_its_other_name(config_file, in_file, override):
    path = config_file(MINIMAL + f"quantize: {{{in_file}: false}}\n")

    assert not load_config(path).quantize.mixed_precision
    assert load_config(path, [f"quantize.{override}=true"]).quantize.mixed_precision


def test_file_with_both_names_of_a_key_is_refused(config_file):
    path = config_file(MINIMAL + "quantize: {rescue_drop: 0.1, mixed_precision_drop: 0.1}\n")

    with pytest.raises(ConfigError, match=r"c\.yaml: quantize: mixed_precision_drop must be given once; got .*rescue"):
        load_config(path)
