# SPDX-License-Identifier: Apache-2.0
"""Settings that others make useless are refused, with what would help."""

import pytest

from learn2compress.schemas.config import parse_config
from learn2compress.schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"data": {"path": "digits", "unlabeled": "more"}, "teacher": {"path": "t", "mode": "joint"}},
            "data.unlabeled must be left out if the teacher is jointly trained",
        ),
        (
            {"data": {"path": "digits", "unlabeled": "more"}, "distill": {"soft_weight": 0}},
            "distill.soft_weight must be above 0 if students learn the logits of data.unlabeled; got 0",
        ),
        (
            {"teacher": {"path": "t", "view_mix": True, "mode": "joint"}},
            "teacher.view_mix must be no if teacher.mode is joint; got yes",
        ),
        (
            {"teacher": {"path": "t", "view_mix": True, "views": 1}},
            "teacher.views must be at least 2 with teacher.view_mix; got 1",
        ),
        (
            {"teacher": {"path": "t", "view_mix": True}, "distill": {"soft_weight": 0}},
            "distill.soft_weight must be above 0 with teacher.view_mix; got 0",
        ),
        (
            {"distill": {"unlabeled": "both"}},
            "distill.unlabeled must be logits unless distill.init is features; got both",
        ),
        (
            {"distill": {"init": "features"}, "students": {"module": "own.py"}},
            "distill.init must be none or a folder if students.module is set; got features",
        ),
        ({"teacher": {"path": "t", "mode": "both"}}, "teacher.mode is wrong: input should be 'fixed' or 'joint'"),
    ],
)
def test_parse_config_refuses_settings_without_an_effect(sections, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({"teacher": {"path": "t"}, "data": {"path": "digits"}} | sections)
