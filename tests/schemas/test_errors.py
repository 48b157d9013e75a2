# SPDX-License-Identifier: Apache-2.0
import pickle

import pytest

from learn2compress.schemas.config import load_config
from learn2compress.schemas.errors import ConfigError, DataError, LineageError


@pytest.mark.parametrize("sign", ["\n", "\r", "\t", "\x1b", "\x9b", "\x00", "\u2028", "\u2029", "\x85"])
def test_message_is_one_line_that_no_terminal_obeys(sign):
    error = LineageError(f"a{sign}[31mé must be b.")

    assert str(error) == "a [31mé must be b."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_message_is_cut_in_its_middle_when_it_quotes_a_whole_file():
    told = str(DataError(f"a.npz must be b; got {'x' * 70_000}. Write it anew."))

    assert len(told) == 1000
    assert told.startswith("a.npz must be b; got xxx")
    assert told.endswith("xxx. Write it anew.")


def test_load_config_names_a_key_with_a_line_break_in_one_line(tmp_path):
    (tmp_path / "c.yaml").write_text("teacher: {path: t}\ndata: {path: d}\n")

    with pytest.raises(ConfigError, match=r"^--set 0\.0  must have a YAML value; got ':'\.$"):
        load_config(tmp_path / "c.yaml", ("0.0\n=:",))
