# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.evaluation.selection import choose, validation_view
from learn2compress.schemas.errors import ConfigError, SelectionError
from learn2compress.schemas.manifests import Task
from learn2compress.schemas.reports import (
    Candidate,
    Evaluation,
    Host,
    Interval,
    Latency,
    Limits,
    SplitFigures,
    TeacherFigures,
)


def split_figures(accuracy):
    return SplitFigures(
        images=1000,
        top1=accuracy,
        top1_interval=Interval(low=0, high=1),
        topk=1.0,
        k=2,
        per_class=[],
        confusion=[],
        agreement=None,
        lost=None,
        won=None,
        flips=[],
        calibration_error=0.0,
    )


def candidate(name, accuracy, size, latency=None, macs=None, test=0.5, **fields):
    student, variant = name.split("-")
    return Candidate(
        name=name,
        student=student,
        variant=variant,
        file=f"{name}.tflite",
        sha256=name,
        bytes=size,
        gzip_bytes=size,
        macs=macs,
        latency=[]
        if latency is None
        else [
            Latency(threads=2, p50_ms=latency / 2, p90_ms=latency, p99_ms=latency, runs=5),
            Latency(threads=1, p50_ms=latency, p90_ms=latency, p99_ms=latency, runs=5),
        ],
        figures={"validation": split_figures(accuracy), "test": split_figures(test)},
        **fields,
    )


def evaluation(*candidates, teacher=0.95):
    return Evaluation(
        task=Task(input_shape=(2, 2, 1), classes=["a", "b"]),
        host=Host(name="bench", processor="x", cores=2, runtime="r"),
        teacher=teacher
        and TeacherFigures(sha256="t", bytes=1, parameters=1, macs=1, accuracy={"validation": teacher, "test": 0.1}),
        images={"validation": 1000, "test": 1000},
        candidates=list(candidates),
    )


SMALL = candidate("small-int8", 0.880, 24_000, latency=0.2, macs=1_000_000)
MEDIUM = candidate("medium-int8", 0.914, 48_000, latency=0.3, macs=2_000_000)
LARGE = candidate("large-int8", 0.918, 108_000, latency=0.5, macs=4_000_000)
SMALL_FLOAT = candidate("small-float32", 0.882, 80_000, latency=0.1, macs=1_000_000)
FAMILY = evaluation(LARGE, SMALL_FLOAT, SMALL, MEDIUM)


def reasons(choice):
    return {verdict.candidate: (verdict.status, verdict.reason) for verdict in choice.verdicts}


def test_choose_takes_the_most_accurate_and_gives_a_reason_for_each():
    choice = choose(FAMILY, Limits())
    assert (choice.chosen, choice.sha256) == ("large-int8", "large-int8")
    assert choice.front == ["small-int8", "medium-int8", "large-int8"]
    assert reasons(choice) == {
        "large-int8": ("chosen", "the most accurate of all 4: 91.8 % at 108 KB"),
        "small-int8": ("front", "on the front: 3.8 points worse at 84 KB less than large-int8"),
        "medium-int8": ("front", "on the front: 0.4 points worse at 60 KB less than large-int8"),
        "small-float32": ("dominated", "dominated by medium-int8: 3.2 points better at 32 KB less"),
    }


@pytest.mark.parametrize(
    ("objective", "chosen"),
    [
        ("accuracy", "large-int8"),
        ("accuracy_strict", "large-int8"),
        ("size", "small-int8"),
        ("latency", "small-float32"),
        ("knee", "medium-int8"),
    ],
)
def test_choose_follows_the_objective(objective, chosen):
    assert choose(FAMILY, Limits(), objective).chosen == chosen


def test_choose_draws_the_front_over_latency_when_that_is_the_objective():
    choice = choose(FAMILY, Limits(), "latency")
    assert choice.front == ["small-float32", "medium-int8", "large-int8"]
    assert reasons(choice)["small-int8"] == (
        "dominated",
        "dominated by small-float32: 0.2 points better and 0.1 ms faster",
    )


def test_choose_gives_the_distance_to_a_missed_limit():
    choice = choose(FAMILY, Limits(max_size=60_000))
    assert choice.chosen == "medium-int8"
    assert choice.front == ["small-int8", "medium-int8"]
    assert reasons(choice)["large-int8"] == ("over limit", "48 KB over max_size (60 KB)")
    assert reasons(choice)["medium-int8"][1] == "the most accurate of 2 that satisfy max_size 60 KB: 91.4 % at 48 KB"


@pytest.mark.parametrize(
    ("limits", "candidate_name", "reason"),
    [
        (Limits(max_latency_ms=0.25), "large-int8", "0.25 ms over max_latency_ms (0.25 ms)"),
        (Limits(max_macs=3_000_000), "large-int8", "1M over max_macs (3M)"),
        (Limits(min_accuracy=0.9), "small-int8", "2.0 points under min_accuracy (90.0 %)"),
        (
            Limits(max_accuracy_drop=0.04),
            "small-int8",
            "7.0 points below the teacher, 3.0 points over max_accuracy_drop (4.0 points)",
        ),
        (
            Limits(max_size=20_000, min_accuracy=0.5),
            "small-int8",
            "4 KB over max_size (20 KB)",
        ),
    ],
)
def test_choose_names_each_kind_of_limit(limits, candidate_name, reason):
    tiny = candidate("tiny-int8", 0.93, 2_000, latency=0.01, macs=10)
    verdicts = reasons(choose(evaluation(*FAMILY.candidates, tiny), limits))
    assert verdicts[candidate_name] == ("over limit", reason)
    assert verdicts["tiny-int8"][0] == "chosen"


def test_choose_accepts_a_candidate_exactly_at_its_limits():
    limits = Limits(
        max_size=48_000, max_latency_ms=0.3, max_macs=2_000_000, min_accuracy=0.914, max_accuracy_drop=0.036
    )
    assert choose(FAMILY, limits).chosen == "medium-int8"


def test_choose_prefers_the_smaller_then_faster_then_the_first_name_when_equal():
    twins = [candidate("b-int8", 0.9, 10, latency=0.2), candidate("a-int8", 0.9, 10, latency=0.2)]
    assert choose(evaluation(*twins), Limits()).chosen == "a-int8"
    faster = candidate("c-int8", 0.9, 10, latency=0.1)
    choice = choose(evaluation(*twins, faster), Limits())
    assert choice.chosen == "c-int8"
    assert reasons(choice)["a-int8"] == (
        "dominated",
        "dominated by c-int8: equally accurate at the same size",
    )


def test_choose_never_takes_a_baseline_or_a_failure():
    plain = candidate("teacher-int8", 0.99, 1, baseline=True)
    broken = candidate("broken-int8", 0.99, 1, failed="cut short")
    choice = choose(evaluation(SMALL, plain, broken), Limits())
    assert choice.chosen == "small-int8"
    assert choice.front == ["small-int8"]
    assert reasons(choice)["teacher-int8"] == ("baseline", "a plain conversion of the teacher, for reference")
    assert reasons(choice)["broken-int8"] == ("failed", "cut short")


def test_choose_gives_the_reason_for_a_failed_baseline():
    broken = candidate("teacher-int8", 0.99, 1, baseline=True, failed="it has no built-in operators")
    choice = choose(evaluation(SMALL, broken), Limits())
    reason = "a plain conversion of the teacher, for reference; it has no built-in operators"
    assert reasons(choice)["teacher-int8"] == ("baseline", reason)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(max_size=30_000), "the only one that satisfies max_size 30 KB"), (Limits(), "the only one measured")],
)
def test_choose_gives_the_reason_for_the_only_candidate(limits, reason):
    choice = choose(evaluation(SMALL, *([LARGE] if limits.max_size else [])), limits)
    assert reasons(choice)["small-int8"][1] == f"{reason}: 88.0 % at 24 KB"


def test_choose_does_not_use_the_test_split():
    flattered = [
        candidate(c.name, c.figures["validation"].top1, c.bytes, test=1 - i / 10)
        for i, c in enumerate((SMALL, MEDIUM, LARGE))
    ]
    unseen = [c.model_copy(update={"figures": {"validation": c.figures["validation"]}}) for c in flattered]
    assert choose(evaluation(*flattered), Limits()) == choose(evaluation(*unseen), Limits())
    assert "0.5" not in repr(validation_view(evaluation(candidate("x-int8", 0.25, 1, test=0.5))))


def test_choose_names_candidates_that_are_not_significantly_different():
    right = np.zeros(1000, bool)
    large, medium, small = right.copy(), right.copy(), right.copy()
    large[:918] = True
    medium[10:924] = True  # McNemar: 10 against 6
    small[:880] = True  # 38 against 0
    correctness = {"large-int8": large, "medium-int8": medium, "small-int8": small}
    verdicts = reasons(choose(FAMILY, Limits(), "accuracy_strict", correctness))
    assert verdicts["medium-int8"][1].endswith(
        "not significantly different from large-int8 (0.4 points, McNemar p = 0.33)"
    )
    assert "significantly" not in verdicts["small-int8"][1]
    assert "not significantly different from medium-int8 (McNemar p > 0.05)" in verdicts["large-int8"][1]


def test_choose_takes_the_smallest_within_one_standard_error():
    large, medium, small, small_float = np.zeros((4, 1000), bool)
    large[:918] = True
    medium[9:923] = True  # 9 against 5: 0.4 points with a standard error of 0.37
    small[:880] = True
    small_float[:882] = True
    correctness = {"large-int8": large, "medium-int8": medium, "small-int8": small, "small-float32": small_float}

    assert choose(FAMILY, Limits(), "accuracy", correctness).chosen == "large-int8"

    medium[:] = False
    medium[12:926] = True  # 12 against 8: 0.4 points with a standard error of 0.45
    choice = choose(FAMILY, Limits(), "accuracy", correctness)
    assert reasons(choice)["medium-int8"] == (
        "chosen",
        "the smallest of all 4 within one standard error of large-int8, the most accurate (91.8 % at 108 KB; "
        "0.4 ± 0.4 points on 1000 validation images): 91.4 % at 48 KB",
    )
    assert reasons(choice)["large-int8"][0] == "front"


def test_choose_speaks_of_texts_where_the_examples_are_texts():
    right, wrong = np.ones(1000, bool), np.ones(1000, bool)
    wrong[0] = False
    texts = FAMILY.model_copy(update={"task": Task(input_shape=(8,), classes=["a", "b"], modality="text")})

    choice = choose(texts, Limits(min_accuracy=0.9), correctness={"large-int8": right, "medium-int8": wrong})

    assert "on 1000 validation texts)" in reasons(choice)["medium-int8"][1]


def test_choose_takes_the_smallest_within_one_standard_error_only_among_those_within_the_limits():
    right = np.ones(1000, bool)
    correctness = {"large-int8": right, "medium-int8": right, "small-int8": right, "small-float32": right}

    assert choose(FAMILY, Limits(min_accuracy=0.9), "accuracy", correctness).chosen == "medium-int8"


def test_choose_refuses_when_nothing_fits_and_names_the_nearest():
    with pytest.raises(
        SelectionError,
        match=r"must satisfy max_size 20 KB; none of 4 does\. "
        r"Nearest: small-int8 is 4 KB over max_size \(20 KB\); "
        r"medium-int8 is 28 KB over max_size \(20 KB\); small-float32 is 60 KB over",
    ) as caught:
        choose(FAMILY, Limits(max_size=20_000))
    assert caught.value.exit_status == 3


def test_choose_names_limits_that_exclude_each_other():
    with pytest.raises(
        SelectionError,
        match="max_size and min_accuracy exclude each other here: 1 candidates satisfy the first, 2",
    ):
        choose(FAMILY, Limits(max_size=30_000, min_accuracy=0.9))


def test_choose_refuses_a_min_accuracy_above_the_teachers():
    with pytest.raises(SelectionError, match=r"min_accuracy is above the teacher's accuracy of 80\.0 %"):
        choose(evaluation(candidate("a-int8", 0.7, 1), teacher=0.8), Limits(min_accuracy=0.9))


def test_choose_refuses_a_drop_when_there_is_no_teacher():
    with pytest.raises(ConfigError, match="max_accuracy_drop must have a teacher to compare with"):
        choose(evaluation(SMALL, teacher=None), Limits(max_accuracy_drop=0.1))


@pytest.mark.parametrize(
    ("limits", "objective", "message"),
    [
        (
            Limits(max_latency_ms=1),
            "accuracy",
            "max_latency_ms must be used with candidates whose latency was measured",
        ),
        (Limits(), "latency", "objective latency must be used with candidates whose latency was measured"),
        (Limits(max_macs=1), "accuracy", "max_macs must be used with candidates whose MACs are known"),
    ],
)
def test_choose_refuses_a_limit_on_an_unmeasured_figure(limits, objective, message):
    with pytest.raises(ConfigError, match=message):
        choose(evaluation(candidate("a-int8", 0.7, 1)), limits, objective)


def test_choose_refuses_the_latency_objective_when_latencies_are_missing():
    with pytest.raises(ConfigError, match="that of a-int8 is missing"):
        choose(evaluation(SMALL, candidate("a-int8", 0.7, 1)), Limits(), "latency")


def test_choose_excludes_unmeasured_candidates_when_a_limit_needs_the_figure():
    choice = choose(evaluation(SMALL, candidate("a-int8", 0.99, 1)), Limits(max_latency_ms=1))
    assert reasons(choice)["a-int8"] == (
        "over limit",
        "not measured, so max_latency_ms (1 ms) cannot be checked",
    )


def test_choose_refuses_when_everything_failed():
    with pytest.raises(SelectionError, match=r"must have been measured; none was\. a-int8: cut short"):
        choose(evaluation(candidate("a-int8", 0.7, 1, failed="cut short")), Limits())
