# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.compression.pruning.passes import Pass, choose_passes, pass_versions
from learn2compress.compression.pruning.passes.registry import check_versions
from learn2compress.schemas.config import BUILT_IN_PASSES, PruneConfig
from learn2compress.schemas.errors import ConfigError, PassError

HEAD = "from pydantic import Field\nfrom learn2compress.compression.pruning.passes import Pass, PassParameters\n"
HALVE = (
    HEAD
    + """
class Parameters(PassParameters):
    factor: float = Field(gt=0, description="what each kernel is multiplied by")
    rounds: int = 1

class Halve(Pass):
    name = "halve"
    parameters_type = Parameters

    def run(self, work, context):
        return work
"""
)


def chosen(*passes, **prune):
    return choose_passes(PruneConfig(passes=list(passes), **prune))


def test_choose_passes_finds_the_built_in_ones_by_default():
    found = choose_passes(PruneConfig(sparsity=0.25, criterion="magnitude"))

    assert tuple(one.step.name for one in found) == BUILT_IN_PASSES
    assert [one.origin for one in found] == [None, None]
    assert found[0].step.parameters.criterion == "magnitude"
    assert found[1].step.parameters.sparsity == 0.25
    assert pass_versions(PruneConfig()) == ""


def test_choose_passes_gives_a_built_in_pass_its_own_fields_alone():
    channels, magnitude = choose_passes(PruneConfig())

    assert set(type(channels.step.parameters).model_fields) == {
        "sensitivity_images", "channels", "criterion", "channel_epochs", "channel_learning_rate",
    }  # fmt: skip
    assert set(type(magnitude.step.parameters).model_fields) == {
        "sensitivity_images", "sparsity", "block", "epochs", "learning_rate",
    }  # fmt: skip


def test_built_in_passes_describe_each_parameter():
    for one in choose_passes(PruneConfig()):
        assert all(info.description for info in one.step.parameters_type.model_fields.values())


def test_choose_passes_finds_a_pass_by_its_entry_point(declare_pass):
    declare_pass("halving", HALVE, "acme-passes", halve="Halve")

    (one,) = chosen({"name": "halve", "parameters": {"factor": 0.5}})

    assert isinstance(one.step, Pass)
    assert (one.step.parameters.factor, one.step.parameters.rounds) == (0.5, 1)
    assert one.origin.startswith("acme-passes 1.0+")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {},
            r"^prune\.passes\.halve\.factor must be given\. Add it to the config\. The parameters of halve are",
        ),
        ({"factor": 0}, r"prune\.passes\.halve\.factor is wrong: .*greater than 0; got 0\. .*what each kernel is mult"),
        ({"facter": 1, "factor": 1}, r"prune\.passes\.halve\.facter is no known key\. Did you mean factor\?"),
        ({"factor": 1, "rounds": "x"}, r"halve\.rounds is wrong: .*integer.*; got 'x'\. The default is 1\."),
    ],
)
def test_choose_passes_names_the_parameter_the_rule_and_the_value(declare_pass, given, message):
    declare_pass("halving", HALVE, halve="Halve")

    with pytest.raises(ConfigError, match=message):
        chosen({"name": "halve", "parameters": given})


def test_choose_passes_names_those_that_there_are(declare_pass):
    declare_pass("halving", HALVE, halve="Halve")

    with pytest.raises(
        PassError,
        match=r"must name passes that are installed: channels, magnitude, .*halve.*; got 'halves'\. Did",
    ):
        chosen("halves")
    with pytest.raises(PassError, match=r"got 'xyz'\. Install the package that declares it, or correct the name\."):
        chosen("xyz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name\n", r"must be importable; got ModuleNotFoundError: No module named 'nothing_of"),
        ("Halve = 3\n", r"pass 'halve', broken:Halve of broken, must be a subclass of Pass; got 3\. Name the class"),
        (HEAD + "class Halve(Pass):\n    name = 'halve'\n", r"must define run\(work, context\); it does not"),
        (HALVE.replace('name = "halve"', 'name = "half"'), r"must have the name of its entry point; got name 'half'"),
        (
            HALVE.replace("parameters_type = Parameters", "parameters_type = dict"),
            r"subclass of PassParameters; got <",
        ),
    ],
)
def test_choose_passes_refuses_what_is_no_pass(declare_pass, text, message):
    declare_pass("broken", text, halve="Halve")

    with pytest.raises(PassError, match=message):
        chosen("halve")


def test_choose_passes_refuses_a_name_that_is_declared_twice(declare_pass):
    declare_pass("halving", HALVE, halve="Halve")
    declare_pass("other", HALVE, halve="Halve")

    with pytest.raises(PassError, match=r"pass 'halve' must be declared once; got it from .* and .*\. Uninstall one"):
        chosen("halve")


def test_choose_passes_refuses_a_package_that_takes_a_built_in_name(declare_pass):
    declare_pass("halving", HALVE, magnitude="Halve")

    with pytest.raises(PassError, match=r"pass 'magnitude' must be declared once; got it from halving and learn2comp"):
        choose_passes(PruneConfig())


def test_pass_versions_change_with_a_byte_of_the_module(declare_pass):
    module = declare_pass("halving", HALVE, "acme", halve="Halve")
    prune = PruneConfig(passes=["channels", {"name": "halve", "parameters": {"factor": 2}}])
    before = pass_versions(prune)

    module.write_text(HALVE + "# changed\n")

    assert before.startswith("halve: acme 1.0+")
    assert pass_versions(prune) != before
    check_versions(prune, pass_versions(prune))
    with pytest.raises(PassError, match=r"passes must be those that the run started with, halve: acme 1\.0\+.*; got"):
        check_versions(prune, before)


def test_pass_versions_change_with_another_file_of_the_package(declare_pass):
    module = declare_pass("placeholder", "", "acme", halve="Halve")
    package = module.parent / "acme_passes"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "halving.py").write_text(HALVE)
    entries = module.parent / "acme-1.0.dist-info" / "entry_points.txt"
    entries.write_text("[learn2compress.passes]\nhalve = acme_passes.halving:Halve\n")
    prune = PruneConfig(passes=[{"name": "halve", "parameters": {"factor": 2}}])
    before = pass_versions(prune)

    (package / "arithmetic.py").write_text("FACTOR = 2\n")

    assert pass_versions(prune) != before
