# SPDX-License-Identifier: Apache-2.0
"""The package offers a documented, typed function for each command, and stays light until one is called."""

import inspect
import subprocess
import sys

import pytest

import learn2compress as l2c
from learn2compress.cli.main import app

# Functions whose name differs from that of the command, mostly because a room or a built-in has that name.
NAMES = {
    "bom": "bill_of_materials",
    "compile": "compile_pipeline",
    "lineage": "trace",
    "lint": "lint_pipeline",
    "rebuild-metadata": "rebuild_metadata",
    "report": "compare",
}
FUNCTIONS = [name for name in l2c.__all__ if inspect.isfunction(getattr(l2c, name))]


def test_package_imports_nothing_heavy_until_a_function_is_used():
    code = (
        "import sys\nimport learn2compress as l2c\n"
        "before = len([m for m in sys.modules if m.startswith('learn2compress.')])\n"
        "l2c.evaluate, l2c.compress, l2c.submit, l2c.trace, l2c.replay\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'keras', 'kfp', 'ml_metadata', 'pandas'}\n"
        "print(before, sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "0 []\n"


def test_every_command_has_a_function():
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}

    assert {NAMES.get(name, name) for name in commands} - set(FUNCTIONS) == set()


def test_every_name_is_found_and_listed():
    for name in l2c.__all__:
        assert getattr(l2c, name).__name__ == name
    assert set(l2c.__all__) <= set(dir(l2c))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_typed_and_documented(name):
    function = getattr(l2c, name)
    signature = inspect.signature(function)

    assert signature.return_annotation is not inspect.Signature.empty
    document = inspect.getdoc(function)
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter
        assert f"    {parameter.name}: " in document, parameter
    assert "Raises:" in document
    assert "Returns:" in document or signature.return_annotation in (None, "None")


def test_package_refuses_an_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        _ = l2c.compres
