# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from learn2compress.schemas.config import (
    ChannelTarget,
    Config,
    DistillConfig,
    LossConfig,
    StudentSize,
    TeacherConfig,
    TrainingConfig,
    load_config,
    parse_config,
)
from learn2compress.schemas.errors import ConfigError
from learn2compress.schemas.scaling import Scaling

PATHS = {"teacher": {"path": "t.keras"}, "data": {"path": "digits"}}


@pytest.fixture
def config_file(tmp_path):
    """Writes a configuration in a folder of its own."""

    def write(text: str) -> Path:
        path = tmp_path / "conf" / "c.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


MINIMAL = "teacher: {path: t.keras}\ndata: {path: digits}\n"


def test_parse_config_needs_only_teacher_and_data():
    config = parse_config(PATHS)

    assert config.distill.epochs == 30
    assert list(config.students.sizes) == ["small", "medium", "large"]
    assert config.teacher.scaling == Scaling.named("none")


def test_config_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        parse_config(PATHS).distill.epochs = 3


@pytest.mark.parametrize("section", [DistillConfig, TeacherConfig])
def test_section_that_inherits_its_fields_shows_each_of_them_once_in_its_own_order(section):
    assert sorted(section.ORDER) == sorted(section.model_fields)
    assert list(section(**({"path": "t"} if section is TeacherConfig else {})).model_dump()) == list(section.ORDER)


def test_part_of_takes_the_values_of_the_section():
    whole = parse_config(PATHS | {"distill": {"temperature": 2, "epochs": 3, "strategy": "mirrored"}}).distill

    assert LossConfig.part_of(whole) == LossConfig(temperature=2)
    assert TrainingConfig.part_of(whole) == TrainingConfig(temperature=2, strategy="mirrored")


def test_every_field_has_a_description():
    def undocumented(model: type[BaseModel], place: str) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Scaling:
                found += undocumented(kind, f"{place}{name}.")
                continue
            found += [] if field.description else [place + name]
        return found

    assert undocumented(Config, "") == []
    assert undocumented(StudentSize, "students.sizes.*.") == []
    assert undocumented(ChannelTarget, "prune.channels.") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distil": {}}, r"^config: distil is no known key\. Did you mean distill\?$"),
        ({"distill": {"epoch": 3}}, r"distill\.epoch is no known key\. Did you mean epochs\?"),
        ({"teacher": {}}, r"teacher\.path must be given\. Add it to the config or pass --set teacher\.path=VALUE"),
        (
            {"students": {"sizes": {"small": {"size_byte": "2KB"}, "large": 1}}},
            r"students\.sizes\.small\.size_byte is no known key\. Did you mean size_bytes\?",
        ),
        (
            {"students": {"sizes": {"small": {"size_bytes": "2KB", "multiplier": 2}, "large": 1}}},
            r"students\.sizes\.small: .*only one of multiplier and size_bytes may be given\.$",
        ),
        (
            {"students": {"sizes": {"small": {"latency_ms": 0.1, "exit": "x"}, "large": 1}, "from": "teacher"}},
            r"students\.sizes\.small: .*only one of latency_ms and exit may be given\.$",
        ),
        (
            {"students": {"sizes": {"small": {"latency_ms": 0.1}, "large": 1}, "from": "auto"}},
            r"students: sizes\.small must have one of multiplier, .* unless from is built_in; got latency_ms\.$",
        ),
        ({"students": {"module": "m.py", "latency_table": "t.json"}}, r"latency_table must be left out unless from is"),
        (
            {"students": {"sizes": {"a": 1, "b": 2}, "module": "m.py"}},
            r"students: only one of sizes and module may be given: a module determines the sizes of its students\.$",
        ),
        ({"students": {"sizes": {"small": None}}}, r"students\.sizes must have at least 2; got small\. Add to it, or"),
        ({"students": {"sizes": dict.fromkeys("abcdefg", 1)}}, r"must have at most 6 entries; got a, b, c, d, e, f, g"),
        (
            {"students": {"sizes": {"small": {"size_bytes": "24kb"}, "large": 1}}},
            r"students\.sizes\.small\.size_bytes: A size must be a whole number with one of the units .*got '24kb'",
        ),
        ({"prune": {"sparsity": 1}}, r"prune\.sparsity is wrong: .*less than 1; got 1\."),
        ({"prune": {"sparsity": -0.1}}, r"prune\.sparsity is wrong: .*greater than or equal to 0; got -0\.1\."),
        ({"prune": {"channels": {"fraction": 0}}}, r"prune\.channels\.fraction is wrong: .*greater than 0; got 0\."),
        ({"prune": {"channels": {"fraction": 1}}}, r"prune\.channels\.fraction is wrong: .*less than 1; got 1\."),
        (
            {"prune": {"channels": {"bytes": "100%"}}},
            r"prune\.channels\.bytes: a fraction must be above 0 and below 1; got 100%",
        ),
        (
            {"prune": {"channels": {"bytes": -0.5}}},
            r"prune\.channels\.bytes: a fraction must be above 0 .*; got -0\.5\.",
        ),
        ({"prune": {"channels": {"macs": "5 TMACs"}}}, r"prune\.channels\.macs: A count must be a whole number"),
        (
            {"prune": {"channels": {}}},
            r"prune\.channels: fraction, bytes or macs must be given; got none of them\. Write \{bytes: 50%\}\.$",
        ),
        (
            {"prune": {"channels": {"size_bytes": "5KB"}}},
            r"prune\.channels\.size_bytes is no known key\. Did you mean bytes\?",
        ),
        (
            {"prune": {"passes": "magnitude"}},
            r"prune\.passes: must be a list of passes in their order; got 'magnitude'\. Write \[channels, magnitude",
        ),
        ({"prune": {"passes": [3]}}, r"prune\.passes\.0: a pass must be a name, or a name with parameters; got 3\. W"),
        (
            {"prune": {"passes": ["channels", {"nam": "x"}]}},
            r"prune\.passes\.1\.name must be given\. .* prune\.passes\.1\.nam is no known key\. Did you mean name\?",
        ),
        (
            {"prune": {"passes": ["mine", "magnitude", "mine"]}},
            r"prune\.passes: must name each pass once; got mine 2 times\. Leave the others out\.",
        ),
        (
            {"prune": {"passes": [{"name": "channels", "parameters": {"criterion": "taylor"}}]}},
            r"prune\.passes\.0: parameters must be left out for the built-in pass channels; got criterion\. Set the",
        ),
        (
            {"prune": {"passes": ["magnitude"], "channels": {"fraction": 0.3}}},
            r"prune: channels must be left out unless passes names channels; got passes \[magnitude\]\. Add channels",
        ),
        ({"prune": {"criterion": "random"}}, r"prune\.criterion is wrong: .*'taylor' or 'magnitude'; got 'random'\."),
        ({"distill": {"epochs": 0}}, r"distill\.epochs is wrong: .*greater than or equal to 1; got 0\."),
        ({"distill": {"epochs": "many"}}, r"distill\.epochs is wrong: .*integer.*; got 'many'\."),
        ({"distill": {"soft_weight": 1.5}}, r"distill\.soft_weight is wrong: .*less than or equal to 1; got 1\.5"),
        ({"distill": {"temperature": float("nan")}}, r"distill\.temperature is wrong: .*finite.*; got nan"),
        ({"distill": 5}, r"distill is wrong: .*; got 5"),
        ({"prune": {"sparsity": 1.0}}, r"prune\.sparsity is wrong: .*less than 1; got 1\.0"),
        ({"teacher": {"path": "t", "views": 0}}, r"teacher\.views is wrong: .*equal to 1; got 0\. The default is 4\."),
        ({"teacher": {"path": "t", "scaling": "imagnet"}}, r"teacher\.scaling: .*Did you mean 'imagenet'\?"),
        (
            {"data": {"path": "d", "classes": [True]}},
            r"data\.classes\.0: a class's name must be text; got True",
        ),
        ({"data": {"path": "d", "channels": 2}}, r"data\.channels is wrong: .*1 or 3; got 2"),
        ({"quantize": {"variants": ["int4"]}}, r"quantize\.variants\.0 is wrong: .*'int8'.*; got 'int4'"),
        (
            {"quantize": {"mixed_precision_drop": 2}},
            r"quantize\.mixed_precision_drop is wrong: .*less than or equal to 1; got 2",
        ),
        (
            {"quantize": {"rescue_layers": 0}},
            r"quantize\.mixed_precision_layers is wrong: .*or equal to 1; got 0",
        ),
        ({"quantize": {"calibration_images": 0}}, r"quantize\.calibration_images is wrong: .*or equal to 1; got 0"),
        ({"quantize": {"teacher_variants": ["uint8"]}}, r"quantize\.teacher_variants\.0 is wrong: .*; got 'uint8'"),
        ({"quantize": {"variants": []}}, r"quantize\.variants must have at least 1; got none\. Add to it, or"),
        ({"pipeline": {"name": "My Run"}}, r"pipeline\.name is wrong: .*pattern.*; got 'My Run'"),
        (
            {"teacher": {"path": "t", "mode": "joint"}, "distill": {"strategy": "mirrored"}},
            r"distill\.strategy must be none if the teacher is jointly trained \(teacher\.mode: joint\); got mirrored",
        ),
        ({"distill": {"student_weights": {"huge": 2}}}, r"distill\.student_weights must name students; got \['huge'\]"),
    ],
)
def test_parse_config_names_the_field_the_rule_and_the_value(change, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(PATHS | change)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"distill": {"epochs": 10**400}}, "distill.epochs"),
        ({"students": {"sizes": {"a": {"size_bytes": -(2**63)}}}}, "students.sizes.a.size_bytes"),
        ({"select": {"max_size": 10**400}}, "select.max_size"),
        ({"data": {"path": "d", "classes": ["a", 2**64]}}, "data.classes"),
    ],
)
def test_parse_config_refuses_a_number_that_no_parameter_can_hold(change, place):
    with pytest.raises(ConfigError, match=rf"^config: {place} must be below 2\^63; got a number of \d+ bits"):
        parse_config({"teacher": {"path": "t"}, "data": {"path": "d"}, **change})


def test_parse_config_names_the_first_three_of_many_faults():
    with pytest.raises(ConfigError) as refused:
        parse_config({"distill": {"epochs": 0, "batch_size": 0}})

    assert str(refused.value).count(". ") >= 2
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, StudentSize()),
        (0.5, StudentSize(multiplier=0.5)),
        (2, StudentSize(multiplier=2.0)),
        ({"size_bytes": "24KiB"}, StudentSize(size_bytes=24 * 1024)),
        ({"macs": "1.5M"}, StudentSize(macs=1_500_000)),
    ],
)
def test_parse_config_accepts_a_student_by_name_number_or_budget(given, expected):
    sizes = {"sizes": {"small": given, "other": 1}}

    assert parse_config(PATHS | {"students": sizes}).students.sizes["small"] == expected


def test_load_config_finds_a_module_in_the_config_folder_and_accepts_any_student_names(config_file):
    path = config_file(MINIMAL + "students: {module: mine.py:make}\ndistill: {student_weights: {any_name: 2}}\n")

    config = load_config(path)

    assert config.students.module == str(path.parent / "mine.py:make")
    assert config.distill.student_weights == {"any_name": 2}


@pytest.mark.parametrize(("text", "value"), [("yes", "yes"), ("no", "no"), ("'no'", "no"), ("auto", "auto")])
def test_load_config_reads_an_unquoted_yes_or_no_as_text(config_file, text, value):
    path = config_file(f"teacher: {{path: t, view_flip: {text}}}\ndata: {{path: digits}}\n")

    assert load_config(path).teacher.view_flip == value


def test_load_config_reads_numbers_as_class_names(config_file):
    path = config_file("teacher: {path: t}\ndata: {path: digits, classes: [0, 1, seven]}\n")

    assert load_config(path).data.classes == ["0", "1", "seven"]


def test_load_config_uses_the_defaults_of_an_empty_section(config_file):
    config = load_config(config_file(MINIMAL + "distill:\nstudents:\n"))

    assert config == load_config(config_file(MINIMAL))


def test_load_config_resolves_relative_paths_from_the_folder_of_the_file(config_file, tmp_path):
    path = config_file(
        "teacher: {path: ../t.keras}\ndata: {path: images/}\n"
        "evaluate: {device_results: phone.json}\npipeline: {push_to: /srv/models}\n"
    )

    config = load_config(path)

    assert Path(config.teacher.path) == tmp_path / "conf/../t.keras"
    assert Path(config.data.path) == tmp_path / "conf/images"
    assert Path(config.evaluate.device_results) == tmp_path / "conf/phone.json"
    assert config.pipeline.push_to == "/srv/models"


@pytest.mark.parametrize("location", ["digits", "s3://bucket/images", "/data/images"])
def test_load_config_does_not_change_words_addresses_and_absolute_paths(config_file, location):
    assert load_config(config_file(f"teacher: {{path: t}}\ndata: {{path: {location}}}\n")).data.path == location


def test_load_config_reads_overrides_as_yaml(config_file):
    overrides = [
        "distill.epochs=3",
        "distill.learning_rate=1e-3",
        "quantize.variants=[int8, uint8]",
        "teacher.path=other.keras",
        "select.max_size=60KB",
        "pipeline.metadata=mysql://host/db?a=b",
    ]

    config = load_config(config_file(MINIMAL), overrides)

    assert (config.distill.epochs, config.distill.learning_rate) == (3, 1e-3)
    assert config.quantize.variants == ["int8", "uint8"]
    assert config.teacher.path == "other.keras", "from the working directory, not the file's folder"
    assert config.select.max_size == 60_000
    assert config.pipeline.metadata == "mysql://host/db?a=b"


@pytest.mark.parametrize(
    ("students", "sizes"),
    [
        ("", {"small": {"macs": 2_000_000}, "medium": {}, "large": {}}),
        ("students:\n", {"small": {"macs": 2_000_000}, "medium": {}, "large": {}}),
        ("students: {sizes: {small: , big: 3}}\n", {"small": {"macs": 2_000_000}, "big": {"multiplier": 3.0}}),
        ("students: {sizes: {big: 3}}\n", {"big": {"multiplier": 3.0}, "small": {"macs": 2_000_000}}),
        (
            "students: {sizes: {small: {macs: 5M}, big: 3}}\n",
            {"small": {"macs": 2_000_000}, "big": {"multiplier": 3.0}},
        ),
    ],
)
def test_load_config_overrides_one_student_and_keeps_the_others(config_file, students, sizes):
    config = load_config(config_file(MINIMAL + students), ["students.sizes.small.macs=2M"])

    assert {name: size.model_dump(exclude_none=True) for name, size in config.students.sizes.items()} == sizes


def test_load_config_overrides_a_whole_mapping(config_file):
    config = load_config(config_file(MINIMAL), ["students.sizes={tiny: , huge: 4}"])

    assert list(config.students.sizes) == ["tiny", "huge"]


def test_load_config_overrides_in_a_mapping_that_is_empty_by_default(config_file):
    config = load_config(config_file(MINIMAL), ["distill.student_weights.small=2"])

    assert config.distill.student_weights == {"small": 2.0}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=3", r"--set must be SECTION\.FIELD=VALUE; got 'epochs=3'\. Example: --set distill\.epochs=3"),
        ("distill.epochs", r"--set must be SECTION\.FIELD=VALUE"),
        (".epochs=3", r"--set must be SECTION\.FIELD=VALUE"),
        ("distill.epochs=[", r"--set distill\.epochs must have a YAML value; got '\['"),
        ("teacher.path.x=3", r"--set teacher\.path\.x must name a field of a section; teacher is not a mapping"),
        ("teacher.path.x.y=3", r"--set teacher\.path\.x\.y must name a field"),
        ("distil.epochs=3", r"distil is no known key\. Did you mean distill\?"),
        ("distill.epoch=3", r"distill\.epoch is no known key\. Did you mean epochs\?"),
        ("students.sizes.small.mac=2M", r"students\.sizes\.small\.mac is no known key\. Did you mean macs\?"),
    ],
)
def test_load_config_refuses_an_override(config_file, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(config_file(MINIMAL), [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teacher: [", r"c\.yaml must be YAML; .*line 1"),
        ("- a\n- b\n", r"c\.yaml must be a mapping of sections; got a list"),
        ("just text", r"c\.yaml must be a mapping of sections; got a str"),
        ("", r"c\.yaml: teacher must be given\."),
        ("1: 2\n", r"c\.yaml: .*1 is "),
    ],
)
def test_load_config_refuses_a_file(config_file, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(config_file(text))


def test_load_config_refuses_a_binary_file(config_file):
    path = config_file("")
    path.write_bytes(b"\xff\xfe\x00teacher")

    with pytest.raises(ConfigError, match=r"c\.yaml must be YAML; "):
        load_config(path)


def test_load_config_refuses_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml must be a readable file; No such file.*learn2compress init"):
        load_config(tmp_path / "none.yaml")


def test_load_config_reads_the_config_of_the_demo():
    config = load_config(Path(__file__).parents[2] / "examples/digits/config.yaml")

    assert config.data.path == "digits"
    assert Path(config.teacher.path).name == "teacher.keras"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"fraction": 0.3}, {"fraction": 0.3}),
        ({"bytes": 0.5}, {"bytes": 0.5}),
        ({"bytes": "50%"}, {"bytes": 0.5}),
        ({"bytes": "12.5 %"}, {"bytes": 0.125}),
        ({"bytes": "50KB"}, {"bytes": 50_000}),
        ({"bytes": 24_000}, {"bytes": 24_000}),
        ({"macs": "0.25"}, {"macs": 0.25}),
        ({"macs": "5M"}, {"macs": 5_000_000}),
    ],
)
def test_channel_target_is_a_fraction_or_an_amount(written, meant):
    config = parse_config(PATHS | {"prune": {"channels": written}})

    assert config.prune.channels.model_dump(exclude_none=True) == meant
    (value,) = meant.values()
    assert type(getattr(config.prune.channels, *meant)) is type(value)


def test_passes_are_names_with_parameters_for_passes_of_other_packages(config_file):
    config = load_config(
        config_file(MINIMAL), ["prune.passes=[magnitude, {name: mine, parameters: {step: 0.1}}, {name: other}]"]
    )

    assert config.prune.pass_names == ("magnitude", "mine", "other")
    assert config.prune.passes[1].parameters == {"step": 0.1}
    assert config.prune.model_dump(mode="json")["passes"] == [
        "magnitude", {"name": "mine", "parameters": {"step": 0.1}}, "other",
    ]  # fmt: skip
    assert load_config(config_file(MINIMAL), ["prune.passes=[]"]).prune.passes == []


def test_init_is_a_word_or_a_folder_relative_to_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    for init, expected in (("none", "none"), ("features", "features"), ("../out", f"{tmp_path}/../out")):
        path.write_text(f"teacher: {{path: t.keras}}\ndata: {{path: digits}}\ndistill: {{init: {init}}}\n")
        assert load_config(path).distill.init == expected
