# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

import pytest
import typer
import yaml
from support.runs.terminal import in_a_terminal
from typer.testing import CliRunner

from learn2compress.cli.init import init, register
from learn2compress.schemas.config import Config, load_config, parse_config
from learn2compress.schemas.config.reading.former_names import FORMER_NAMES
from learn2compress.schemas.errors import OutputError


@pytest.fixture
def app():
    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)
    return app


def test_init_writes_a_config_that_loads_and_equals_the_defaults(app, tmp_path, monkeypatch):
    path = tmp_path / "c.yaml"
    (tmp_path / "my model: v2.keras").touch()
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(
        app, ["init", str(path), "--teacher", "my model: v2.keras", "--data", "images", "--no-inspect"]
    )

    assert done.exit_code == 0, done.output
    assert f"learn2compress run {path}" in done.output
    config = load_config(path)
    assert config == parse_config(
        {"teacher": {"path": str(tmp_path / "my model: v2.keras")}, "data": {"path": str(tmp_path / "images")}}
    )


def test_init_shows_every_field_with_its_default_and_its_description(app, tmp_path):
    path = tmp_path / "c.yaml"
    CliRunner().invoke(app, ["init", str(path)])
    text = path.read_text()
    tree: dict = {}
    for name, field in Config.model_fields.items():
        section = text.split(f"\n{name}:\n")[1].split("\n\n")[0]
        tree[name] = {}
        for key, info in field.annotation.model_fields.items():
            line = re.search(rf"^  (# )?{key}: (.*)$", section, re.MULTILINE)
            assert line, f"{name}.{key}"
            tree[name][key] = yaml.safe_load(line[2])
            assert f"  # {info.description}\n  {line[1] or ''}{key}:" in section
    # A file with every default written out equals one without any.
    given = {"teacher": {"path": tree["teacher"]["path"]}, "data": {"path": tree["data"]["path"]}}
    assert parse_config(tree) == parse_config(given)


def test_init_shows_no_former_name_of_a_key(app, tmp_path):
    CliRunner().invoke(app, ["init", str(tmp_path / "c.yaml")])

    text = (tmp_path / "c.yaml").read_text()
    former = [former for names in FORMER_NAMES.values() for former in names]
    assert former
    assert not [name for name in former if re.search(rf"\b{name}:", text)]


def test_init_refuses_to_overwrite_a_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("mine")

    with pytest.raises(OutputError, match=r"c\.yaml must be a new file; it exists already\. Choose another name"):
        init(path, "t", "d", inspect=False)

    assert path.read_text() == "mine"


def test_init_refuses_an_unwritable_path(tmp_path):
    with pytest.raises(OutputError, match=r"none/c\.yaml must be writable; No such file or directory\. Choose"):
        init(Path(tmp_path / "none/c.yaml"), None, None, inspect=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--teacher", "none.keras"], "--teacher must be an existing model; got none.keras"),
        (["--data", "nowhere"], "--data must be an existing file or folder; got nowhere"),
    ],
)
def test_init_refuses_paths_that_do_not_exist(type_in, tmp_path, options, message):
    status, _, error = type_in("init", tmp_path / "c.yaml", *options)

    assert status == 2
    assert message in error
    assert not (tmp_path / "c.yaml").exists()


def test_init_asks_for_teacher_and_data_in_a_terminal(tmp_path):
    (tmp_path / "m.keras").touch()

    status, shown = in_a_terminal(["init", tmp_path / "c.yaml", "--no-inspect"], [f" {tmp_path / 'm.keras'} ", ""])

    assert status == 0, shown
    config = load_config(tmp_path / "c.yaml")
    assert config.teacher.path == str(tmp_path / "m.keras")
    assert config.data.path == str(tmp_path / "images")  # the example of the template, to be changed


def test_init_asks_for_nothing_that_was_given(tmp_path):
    (tmp_path / "m.keras").touch()

    status, shown = in_a_terminal(
        ["init", tmp_path / "c.yaml", "--no-inspect", "--teacher", tmp_path / "m.keras", "--data", "digits"], []
    )

    assert status == 0
    assert "(Enter" not in shown
