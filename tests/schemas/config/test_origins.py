# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.schemas.config import DistillConfig, FamilyConfig, StudentsConfig, parse_config
from learn2compress.schemas.config.reading.origins import FROM_TEACHER
from learn2compress.schemas.errors import ConfigError
from learn2compress.schemas.parameters import decode, encode

BASE = {"teacher": {"path": "t.keras"}, "data": {"path": "d"}}


def test_students_from_the_teacher_have_defaults_of_their_own():
    config = parse_config({**BASE, "students": {"from": "teacher"}})
    for section, fields in FROM_TEACHER.items():
        for field, value in fields.items():
            assert getattr(getattr(config, section), field) == value
    assert config.students.origin == "teacher"


def test_what_the_user_sets_comes_before_the_defaults():
    given = {"distill": {"epochs": 5}, "prune": {"sparsity": 0.5}, "teacher": {"path": "t", "views": 3}}
    config = parse_config({**BASE, **given, "students": {"from": "teacher"}})
    assert (config.distill.steps, config.distill.epochs, config.teacher.views) == (None, 5, 3)
    assert config.prune.pass_names == ("channels", "magnitude")
    assert config.distill.batch_size == FROM_TEACHER["distill"]["batch_size"]


def test_without_an_origin_no_default_and_no_parameter_changes():
    assert parse_config(BASE) == parse_config({**BASE, "students": {"from": None}})
    assert set(encode(students=FamilyConfig())) == {"students_sizes"}


def test_origin_is_a_parameter_like_the_other_fields():
    section = FamilyConfig.part_of(StudentsConfig.model_validate({"from": "teacher", "input": 128}))
    values = encode(students=section)
    assert (values["students_from"], values["students_input"]) == ("teacher", 128)
    assert decode(FamilyConfig, "students", values).origin == "teacher"


def test_epochs_auto_is_a_number_of_steps():
    config = DistillConfig.model_validate({"epochs": "auto"})
    assert config.epochs_of(50) == 8
    assert config.epochs_of(10_000) == 1
    assert DistillConfig(epochs=7).epochs_of(50) == 7


def test_features_are_learned_for_a_least_number_of_steps_unless_epochs_are_set():
    assert DistillConfig(init="features").init_epochs_of(5) == 60
    assert DistillConfig(init="features").init_epochs_of(100) == 10
    assert DistillConfig(init="features", init_epochs=2).init_epochs_of(5) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"students": {"input": 128}}, "input must be left out unless from is teacher or auto"),
        ({"students": {"from": "teacher", "module": "a.py"}}, "only one of from and module"),
        (
            {"students": {"from": "teacher"}, "distill": {"init": "features"}},
            r"distill\.init must be none if students\.from",
        ),
        ({"students": {"from": "auto"}, "teacher": {"path": "t", "mode": "joint"}}, r"teacher\.mode must be fixed"),
        ({"students": {"from": "nothing"}}, "students.from"),
    ],
)
def test_combinations_that_cannot_be_are_refused(changed, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({**BASE, **changed})
