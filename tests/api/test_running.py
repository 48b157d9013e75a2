# SPDX-License-Identifier: Apache-2.0
"""How a configuration is made of arguments, and how `compress` and `run` treat the one in the output folder."""

import numpy as np
import pytest
import yaml

from learn2compress.api import running
from learn2compress.api.examining import Findings
from learn2compress.api.terminal import Screen
from learn2compress.schemas.config import build_config, load_config
from learn2compress.schemas.errors import ConfigError


def test_list_settings_writes_values_as_yaml():
    settings = {"distill.epochs": 3, "students.sizes": {"a": None}, "teacher.scaling": "unit", "data.classes": ["1"]}

    assert running.list_settings(settings) == [
        "distill.epochs=3", "students.sizes={a: null}", "teacher.scaling=unit", "data.classes=['1']",
    ]  # fmt: skip
    assert running.list_settings("distill.epochs=3") == ["distill.epochs=3"]


def test_compress_names_a_wrong_argument_as_it_is_written_in_python(tmp_path):
    with pytest.raises(ConfigError, match=r"^max_size: .*unknown unit|^max_size"):
        running.compress("t.keras", "digits", tmp_path / "out", max_size="3 apples")
    assert not (tmp_path / "out").exists()


def test_run_refuses_settings_for_a_loaded_configuration(tmp_path):
    config = build_config({"teacher": {"path": "t.keras"}, "data": {"path": "digits"}})

    with pytest.raises(ConfigError, match="settings must come with the path of a configuration"):
        running.run(config, tmp_path / "out", settings={"distill.epochs": 1})


def test_build_config_makes_paths_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    config = build_config({"teacher": {"path": "t.keras"}, "data": {"path": "digits"}}, ["students.module=m.py:build"])

    assert config.teacher.path == str(tmp_path / "t.keras")
    assert config.data.path == "digits"
    assert config.students.module == str(tmp_path / "m.py:build")


def complete(tmp_path, monkeypatch, settings=()):
    found = Findings("unit", (("teacher", "scaling", "tried: with unit 93 %"),))
    monkeypatch.setattr("learn2compress.api.examining.examine_inputs", lambda *_: found)
    config = build_config({"teacher": {"path": "t.keras"}, "data": {"path": "digits"}, "select": {}}, settings)
    with Screen() as screen:
        return running._complete(config, screen, tmp_path, None, True)


def test_compress_writes_the_configuration_with_the_scaling_that_was_found(tmp_path, monkeypatch, capfd):
    config = complete(tmp_path, monkeypatch, ["distill.epochs=2"])

    assert config.teacher.scaling.name == "unit"
    assert load_config(tmp_path / "config.yaml") == config
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert written["teacher"]["scaling"] == "unit"
    assert written["distill"] == {"epochs": 2}
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["teacher", "teacher", "data", "distill"]
    assert lines[-1].endswith(f"all else by default ({tmp_path / 'config.yaml'})")


def test_compress_keeps_a_scaling_that_is_given(tmp_path, monkeypatch):
    assert complete(tmp_path, monkeypatch, ["teacher.scaling=symmetric"]).teacher.scaling.name == "symmetric"


def test_run_removes_the_configuration_of_an_earlier_compress_unless_it_was_given(tmp_path):
    config, path = build_config({"teacher": {"path": "t.keras"}, "data": {"path": "digits"}}), tmp_path / "config.yaml"
    path.write_text("teacher: {}")

    running._forget_config(config, tmp_path, path)
    assert path.exists()
    running._forget_config(config, tmp_path, tmp_path / "other.yaml")
    assert not path.exists()


@pytest.mark.slow
def test_examine_inputs_finds_the_scaling_of_a_teacher_that_scores_alike_under_any_scale(tmp_path):
    import tf_keras as keras

    from learn2compress.api.examining import examine_inputs
    from learn2compress.schemas.config import DataConfig, TeacherConfig

    labels = np.arange(200) % 2
    images = np.zeros((200, 2, 2, 1), np.uint8)
    images[np.arange(200), labels, 0, 0] = 255  # in the first row or in the second
    np.savez(tmp_path / "d.npz", images=images, labels=labels, class_names=np.array(["top", "bottom"]))
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.array([[5, 0], [0, 0], [0, 5], [0, 0]], "float32")])
    model.save(tmp_path / "t.keras")

    findings = examine_inputs(TeacherConfig(path=str(tmp_path / "t.keras")), DataConfig(path=str(tmp_path / "d.npz")))

    assert findings.scaling in ("unit", "symmetric")  # 0..1, or -1..1 without a bias: both are plausible
    assert "is 100.0%, with none 100.0%" in findings.about("teacher", "scaling")[0]


@pytest.mark.slow
@pytest.mark.parametrize(("trained_on", "found"), [("unit", "unit"), ("none", None)])
def test_examine_inputs_finds_the_scaling_that_the_teacher_was_trained_with(tmp_path, trained_on, found):
    import tf_keras as keras

    from learn2compress.api.examining import examine_inputs
    from learn2compress.schemas.config import DataConfig, TeacherConfig

    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    images = (rng.integers(0, 100, (300, 4, 4, 1)) + 120 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=labels, class_names=np.array(["dark", "bright"]))
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    slope = 16 / (255 if trained_on == "none" else 1)
    middle = 110 / (1 if trained_on == "none" else 255)
    kernel = np.stack([np.full(16, -slope / 16), np.full(16, slope / 16)], axis=1).astype("float32")
    model.set_weights([kernel, np.array([slope * middle, -slope * middle], "float32")])
    model.save(tmp_path / "t.keras")

    findings = examine_inputs(TeacherConfig(path=str(tmp_path / "t.keras")), DataConfig(path=str(tmp_path / "d.npz")))

    assert findings.scaling == found
    [about] = findings.about("teacher", "scaling")
    assert about.startswith(f"tried: with {trained_on} the accuracy on 128 training images is 100.0%")
    assert "input 4 × 4 × 1, 2 outputs (logits)" in findings.about("teacher", "path")[0]
    assert "npz, images of 4 × 4 × 1, 300 without a split, 2 classes" in findings.about("data", "path")[0]


@pytest.mark.slow
def test_examine_inputs_describes_texts_and_their_teacher(tmp_path):
    import tf_keras
    from support.texts.teachers import build_strings

    from learn2compress.api.examining import examine_inputs
    from learn2compress.schemas.config import DataConfig, TeacherConfig

    rows = [f"a {'good' if i % 2 else 'bad'} film {i}\t{i % 2}" for i in range(200)]
    (tmp_path / "d.tsv").write_text("\n".join(["text\tlabel", *rows]))
    build_strings(tf_keras).save(tmp_path / "t.keras")

    findings = examine_inputs(TeacherConfig(path=str(tmp_path / "t.keras")), DataConfig(path=str(tmp_path / "d.tsv")))

    assert findings.scaling is None
    assert "the accuracy on 128 training texts is 100.0%" in findings.about("teacher", "scaling")[0]
    assert "input a text, 2 outputs (probabilities)" in findings.about("teacher", "path")[0]
    assert "found: tsv, texts, 200 without a split, 2 classes" in findings.about("data", "path")[0]
    assert findings.about("data", "max_tokens") == ["found: the run will use 16"]
