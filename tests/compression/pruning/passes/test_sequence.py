# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest

from learn2compress.compression.pruning.passes import Pass, PassParameters, Work, run_passes
from learn2compress.compression.pruning.passes.registry import ChosenPass
from learn2compress.schemas.errors import PassError, TrainingError
from learn2compress.schemas.manifests import Epoch


class Scripted(Pass):
    """Does what a test says."""

    name = "scripted"

    def __init__(self, run):
        super().__init__(PassParameters())
        self.script = run

    def run(self, work, context):  # noqa: ARG002
        return self.script(work)


@pytest.fixture
def work(stripes, trained_family):
    return Work(stripes.SPEC.students, trained_family, stripes.SPEC)


def run(work, *scripts):
    return run_passes([ChosenPass(Scripted(script), "acme 1.0") for script in scripts], work, context=None)


def test_run_passes_hands_each_pass_what_the_one_before_returned(work):
    after = run(work, lambda work: work.with_note("first"), lambda work: work.with_note(f"second of {len(work.notes)}"))

    assert after.notes == ["first", "pass scripted of acme 1.0", "second of 2", "pass scripted of acme 1.0"]


def test_run_passes_says_that_there_are_none(work):
    assert run(work).notes == ["no pruning: prune.passes is empty"]


def nothing(_):
    return None


def divide(_):
    return 1 / 0


def narrower(work):
    import tf_keras as keras

    return replace(work, family=keras.Model(work.family.input, work.family.outputs[:1]))


def other_shape(work, stripes):
    from learn2compress.compression.family.model import build_family
    from learn2compress.compression.family.spec import Conv

    return replace(work, family=build_family(replace(stripes.SPEC, stem=(Conv("stem", 12),)), seed=0))


def not_a_number(work):
    work.family.weights[0].assign(work.family.weights[0] * float("nan"))
    return work


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (nothing, r"pass 'scripted' of acme 1\.0 must return a Work; got None\. Return work, or dataclasses"),
        (
            lambda work: replace(work, names=("a", "b")),
            r"must keep the students' names \('small', 'large'\); got \('a'",
        ),
        (narrower, r"must keep the students' outputs \[\(None, 3\), \(None, 3\)\]; got \[\(None, 3\)\]\. Leave"),
        (not_a_number, r"must leave finite weights; those of \S+ are not\. Check its arithmetic"),
        (
            divide,
            r"must run to its end; test_sequence\.py, line \d+: ZeroDivisionError: division by zero\.",
        ),
    ],
)
def test_run_passes_refuses_what_breaks_the_contract(work, script, message):
    with pytest.raises(PassError, match=message):
        run(work, script)


def test_run_passes_wants_the_spec_of_a_new_shape(work, stripes):
    with pytest.raises(PassError, match=r"must return the spec of the new shape .*Set spec in dataclasses\.replace"):
        run(work, lambda work: other_shape(work, stripes))


def test_run_passes_lets_a_refusal_of_the_pass_through(work):
    def refuse(_):
        raise TrainingError("the learning rate must be lower; got 9. Lower it.")

    with pytest.raises(TrainingError, match=r"^the learning rate must be lower; got 9\. Lower it\.$"):
        run(work, refuse)


def test_work_counts_trainings_and_numbers_a_stages_epochs_on(work):
    def epochs(stage, count):
        return [
            Epoch(stage=stage, epoch=n + 1, loss={}, accuracy={}, learning_rate=0.1, seconds=1.0) for n in range(count)
        ]

    after = work.after_training(epochs("thinned", 2)).after_training(epochs("pruned", 1))
    after = after.after_training(epochs("pruned", 2))

    assert after.trainings == 3
    assert [(epoch.stage, epoch.epoch) for epoch in after.curves] == [
        ("thinned", 1), ("thinned", 2), ("pruned", 1), ("pruned", 2), ("pruned", 3),
    ]  # fmt: skip
