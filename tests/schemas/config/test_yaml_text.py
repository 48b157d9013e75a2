# SPDX-License-Identifier: Apache-2.0
"""Whatever a configuration's text is, it comes out as plain values or as one error in a line."""

import pytest

from learn2compress.schemas.config.config import load_config, parse_config
from learn2compress.schemas.config.reading.yaml_text import MAX_BYTES, YamlTextError, read_yaml
from learn2compress.schemas.errors import ConfigError

TEACHER = "teacher: {path: x}\n"


def test_read_yaml_keeps_dates_as_text():
    assert read_yaml("{a: 2020-02-03, b: 2020-13-45, c: 2020-01-01T00:00:00Z}") == {
        "a": "2020-02-03",
        "b": "2020-13-45",
        "c": "2020-01-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 0b_", r"must be YAML with values that suit .*invalid literal for int\(\) with base 2"),
        ("a: 0x_", "invalid literal"),
        ("a: !!timestamp abc", "must be YAML with values that suit"),
        ("a: !!bool maybe", "must be YAML with values that suit"),
        ("a: !!float abc", "must be YAML with values that suit"),
        ("a: !!python/object/apply:os.system [ls]", "must be YAML; could not determine a constructor"),
        ("a: &x [1]\nb: *x", "must be written out without aliases; line 2 has one"),
        ("a: " + 50 * "[" + 50 * "]", "must be nested at most 32 levels deep"),
        ("a: " + 5000 * "9", "must be YAML with values that suit"),
        (MAX_BYTES * "a" + "a", "must have at most 1,000,000 characters"),
        ("a: b: c", "must be YAML; mapping values are not allowed here"),
        ("a: \x00", "must be YAML; unacceptable character"),
    ],
)
def test_read_yaml_refuses_in_one_short_line(text, message):
    with pytest.raises(YamlTextError, match=message) as refused:
        read_yaml(text)

    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 280


@pytest.mark.parametrize(
    "text",
    [
        "teacher: {path: 2020-13-45}",
        TEACHER + "select: {max_size: 2020-02-30}",
        TEACHER + "prune: {epochs: " + 4000 * "9" + "}",
        TEACHER + "data: {path: digits, " + 5000 * "k" + ": 1}",
        TEACHER + 'data: {path: digits, classes: ["' + 9000 * "n" + '", [1]]}',
        TEACHER + "data: {path: digits}\n2020-01-01: {}",
        TEACHER + "data: {path: digits}\nnull: {}",
        TEACHER + "data: {path: digits}\n1.5: {}",
        TEACHER + "data: {path: digits}\n? [a, b]\n: {}",
        "teacher: {path: ~nosuchuser/x}\ndata: {path: digits}",
        "teacher: [[[[x]]]]",
        "- a",
    ],
)
def test_load_config_refuses_in_one_short_line(text, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError) as refused:
        load_config(path)

    assert "\n" not in str(refused.value)
    assert len(str(refused.value).replace(str(tmp_path), "")) <= 300


def test_load_config_names_a_user_without_a_known_home(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("teacher: {path: ~nosuchuser/x}\ndata: {path: digits}")

    with pytest.raises(ConfigError, match=r"teacher.path must be a path; '~nosuchuser/x' names no user's home"):
        load_config(path)


def test_parse_config_names_as_many_problems_as_fit_into_a_line():
    wrong = {"teacher": {"path": "t", "pth": 1}, "data": {"path": "d", "hight": 8}, "prune": {"epochs": 0}}

    with pytest.raises(
        ConfigError, match=r"teacher.pth is no known key. Did you mean path\? data.hight .* prune.epochs"
    ):
        parse_config(wrong)
