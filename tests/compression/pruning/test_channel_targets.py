# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.compression.channels.groups import CHANNEL_STEP
from learn2compress.compression.family.channels import with_widths
from learn2compress.compression.family.model import build_family
from learn2compress.compression.family.sizing import solve_family
from learn2compress.compression.family.spec import Branch, Conv, FamilySpec, family_costs, student_cost
from learn2compress.compression.pruning.channel_targets import (
    check_reachable,
    choose_widths,
    describe_widths,
    target_alone,
)
from learn2compress.compression.pruning.prunable import prunable
from learn2compress.schemas.config import ChannelTarget, StudentSize
from learn2compress.schemas.errors import FamilyError


@pytest.fixture(scope="module")
def spec():
    """The family of separable blocks for 32x32 photographs."""
    sizes = {name: StudentSize() for name in ("small", "medium", "large")}
    return solve_family(sizes, (32, 32, 3), 10, blocks="separable")


def students_of(spec):
    return prunable(build_family(spec), spec.students, spec)


@pytest.fixture(scope="module")
def students(spec):
    return students_of(spec)


@pytest.fixture(scope="module")
def loss_increase(students):
    """A few important channels and many unimportant ones, as is typical."""
    rng = np.random.default_rng(0)
    return {group.name: rng.exponential(size=group.width) ** 2 for group in students.groups}


def shares(spec, pruned, what):
    """Remaining fraction of each student."""
    before, after = family_costs(spec), family_costs(pruned)
    return {name: getattr(after[name], what) / getattr(before[name], what) for name in before}


def test_choose_widths_reduces_every_student_to_its_share_of_the_bytes(spec, students, loss_increase):
    widths = choose_widths(students, ChannelTarget(bytes=0.5), loss_increase)

    left = shares(spec, with_widths(spec, widths), "int8_bytes")
    assert 0.475 <= left["large"] <= 0.5
    assert left["medium"] == pytest.approx(0.5, abs=0.1)
    assert 0.48 <= left["small"] <= 0.65  # a larger part of its file does not depend on the channels
    groups = {group.name: group for group in students.groups}
    assert all(width % CHANNEL_STEP == 0 for width in widths.values())
    tails = [group for group in groups.values() if len(group.students) == 1 and group.students != ("large",)]
    assert all(widths[group.name] >= 0.5 * group.width for group in tails)
    assert all(groups[name].min_width <= width <= groups[name].width for name, width in widths.items())


def test_choose_widths_reduces_students_with_fused_blocks_to_their_share_of_the_bytes():
    sizes = {"small": StudentSize(), "large": StudentSize()}
    spec = solve_family(sizes, (32, 32, 3), 10, blocks="by_stage")
    students = students_of(spec)

    widths = choose_widths(students, ChannelTarget(bytes=0.5), {g.name: np.ones(g.width) for g in students.groups})

    assert 0.475 <= shares(spec, with_widths(spec, widths), "int8_bytes")["large"] <= 0.5


def test_choose_widths_accepts_macs_as_a_share_or_a_count(spec, students, loss_increase):
    most = family_costs(spec)["large"].macs // 2

    by_share, by_count = (choose_widths(students, ChannelTarget(macs=value), loss_increase) for value in (0.5, most))

    assert by_count == by_share
    assert 0.475 <= shares(spec, with_widths(spec, by_share), "macs")["large"] <= 0.5


def test_choose_widths_meets_two_targets_and_little_more(spec, students, loss_increase):
    widths = choose_widths(students, ChannelTarget(bytes=0.5, macs=0.4), loss_increase)

    pruned = with_widths(spec, widths)
    assert shares(spec, pruned, "macs")["large"] <= 0.4
    assert 0.4 <= shares(spec, pruned, "int8_bytes")["large"] <= 0.5
    for group in students.groups:  # no further channel of the large student could be kept
        wider = widths[group.name] + CHANNEL_STEP
        more = with_widths(spec, widths | {group.name: wider}) if wider <= group.width else None
        if more is not None and "large" in group.students:
            assert shares(spec, more, "macs")["large"] > 0.4 or shares(spec, more, "int8_bytes")["large"] > 0.5
    by_macs = with_widths(spec, choose_widths(students, ChannelTarget(macs=0.4), loss_increase))
    assert shares(spec, by_macs, "int8_bytes")["large"] > 0.5  # so that both targets are needed


def test_choose_widths_accepts_a_size(spec, students, loss_increase):
    widths = choose_widths(students, ChannelTarget(bytes="50KB"), loss_increase)

    assert 47_500 <= family_costs(with_widths(spec, widths))["large"].int8_bytes <= 50_000


def test_choose_widths_accepts_a_fraction_of_the_channels(spec, students, loss_increase):
    widths = choose_widths(students, ChannelTarget(fraction=0.3), loss_increase)

    for student in spec.students:
        groups = [group for group in students.groups if student in group.students]
        left = sum(widths[group.name] for group in groups) / sum(group.width for group in groups)
        assert left == pytest.approx(0.7, abs=0.06)


def test_choose_widths_removes_channels_with_the_least_increase_of_the_loss():
    spec = FamilySpec((8, 8, 1), 2, (Conv("a", 32, stride=2), Conv("b", 32, stride=2)), (Branch("only", (), ()),))
    loss_increase = {"a": np.full(32, 1.0), "b": np.full(32, 100.0)}
    students = students_of(spec)

    widths = choose_widths(students, ChannelTarget(fraction=0.25), loss_increase)

    assert widths == {"a": 16, "b": 32}


def test_choose_widths_tries_further_widths_when_the_next_one_saves_nothing():
    """Two layers of the same width share their zero points: slightly narrowing one of them makes the file larger."""
    blocks = (Conv("a", 288), Conv("b", 288, kernel=1))
    spec = FamilySpec((8, 8, 1), 2, blocks, (Branch("only", (), ()),))
    before = family_costs(spec)["only"].int8_bytes
    assert family_costs(with_widths(spec, {"b": 284}))["only"].int8_bytes > before

    widths = choose_widths(
        students_of(spec), ChannelTarget(bytes=0.7), {"a": np.full(288, 1e6), "b": np.full(288, 1.0)}
    )

    assert widths["a"] == 288
    assert 0.68 * before <= family_costs(with_widths(spec, widths))["only"].int8_bytes <= 0.7 * before


def test_choose_widths_keeps_all_channels_where_the_target_is_met(students, loss_increase):
    assert choose_widths(students, ChannelTarget(bytes="1MB"), loss_increase) == {
        g.name: g.width for g in students.groups
    }


def test_choose_widths_never_changes_the_connections(spec, students, loss_increase):
    """Widths of separate neighbours never coincide if this would make a block residual."""
    for share in np.arange(0.25, 0.95, 0.05):
        assert with_widths(spec, choose_widths(students, ChannelTarget(bytes=float(share)), loss_increase)) is not None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"bytes": "3KB"},
            r"student 'large'; got \{bytes: 3000\}, which is 3,000 B of its .* reachable is 1\d,\d{3} B\.",
        ),
        ({"macs": "1%"}, r"got \{macs: 0\.01\}.* MACs, and the smallest reachable is .* MACs\. Set a larger value"),
        ({"bytes": "50%", "macs": "1%"}, r"got \{bytes: 0\.5, macs: 0\.01\}.* and the smallest reachable is .* MACs\."),
        ({"fraction": 0.97}, r"got \{fraction: 0\.97\}.* channels, and the smallest reachable is .* channels\."),
    ],
)
def test_choose_widths_refuses_a_target_that_no_widths_meet(students, loss_increase, target, message):
    target = ChannelTarget.model_validate(target)

    with pytest.raises(FamilyError, match=message):
        choose_widths(students, target, loss_increase)
    with pytest.raises(FamilyError, match=message):
        check_reachable(students, target)


def test_check_reachable_names_a_size_that_can_be_reached(students):
    with pytest.raises(FamilyError) as found:
        check_reachable(students, ChannelTarget(bytes=3000))

    least = str(found.value).split("reachable is ")[1].split(".")[0]
    check_reachable(students, ChannelTarget(bytes=least))


def test_describe_widths_gives_sizes_and_macs_before_and_after(stripes):
    students = students_of(stripes.SPEC)

    text = describe_widths(students, {group.name: group.width for group in students.groups} | {"trunk2_1": 12})

    assert text == (
        "channels: trunk2_1 16 → 12; small about 4.52 KB → 4.52 KB as int8, 16.6K → 16.6K MACs; "
        "large about 7.57 KB → 7.04 KB as int8, 31.4K → 26.4K MACs"
    )


@pytest.mark.parametrize("target", [{"bytes": 0.6}, {"macs": 0.6}, {"fraction": 0.3}, {"bytes": "50KB"}])
def test_target_alone_equals_the_reduction_of_the_student_in_its_family(spec, students, target):
    target = ChannelTarget.model_validate(target)
    largest = spec.students[-1]
    [(kind, value)] = target.model_dump(exclude_none=True).items()
    share = value / student_cost(spec, largest).int8_bytes if value >= 1 else value

    assert target_alone(students, students_of(spec.single(largest)), target) == target
    for student in spec.students[:-1]:
        alone = target_alone(students, students_of(spec.single(student)), target)
        check_reachable(students_of(spec.single(student)), alone)
        assert getattr(alone, kind) == pytest.approx(share)


def test_target_alone_keeps_each_of_two_targets(spec, students):
    alone = target_alone(students, students_of(spec.single(spec.students[0])), ChannelTarget(bytes=0.6, macs=0.5))

    assert (alone.bytes, alone.macs, alone.fraction) == (pytest.approx(0.6), pytest.approx(0.5), None)
    assert (
        target_alone(students, students_of(spec.single(spec.students[0])), ChannelTarget(bytes="1MB", macs=0.5)).bytes
        is None
    )


def test_target_alone_is_limited_to_what_can_be_reached(spec, students):
    student = spec.students[0]

    alone = target_alone(students, students_of(spec.single(student)), ChannelTarget(bytes=0.01))

    check_reachable(students_of(spec.single(student)), alone)
    assert 0.05 < alone.bytes < 1


def test_target_alone_is_none_when_nothing_is_removed(spec, students):
    assert target_alone(students, students_of(spec.single(spec.students[0])), ChannelTarget(bytes="1MB")) is None


def test_choose_widths_gives_a_student_its_own_target(spec, students, loss_increase):
    target = ChannelTarget.model_validate({"bytes": 0.8, "students": {"small": {"bytes": 0.75}, "medium": {}}})

    widths = choose_widths(students, target, loss_increase)

    left = shares(spec, with_widths(spec, widths), "int8_bytes")
    assert 0.76 <= left["large"] <= 0.8
    assert 0.7 <= left["small"] <= 0.75
    tail = next(group for group in students.groups if group.students == ("medium",))
    assert widths[tail.name] == tail.width


def test_choose_widths_prunes_only_the_students_that_have_a_target(students, loss_increase):
    target = ChannelTarget.model_validate({"students": {"small": {"bytes": 0.9}}})

    widths = choose_widths(students, target, loss_increase)

    narrower = {group.students for group in students.groups if widths[group.name] < group.width}
    assert narrower == {("small",)}


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"tiny": {"bytes": 0.5}}, "must name students, which are small, medium, large; got tiny"),
        (
            {"small": {"bytes": 0.1}},
            r"prune\.channels\.students\.small must be within reach by the part that only this student has; its limit "
            r"is [\d,]+ B, and the nearest reachable is [\d,]+ B\.",
        ),
    ],
)
def test_check_reachable_refuses_a_students_own_target(students, own, message):
    with pytest.raises(FamilyError, match=message):
        check_reachable(students, ChannelTarget.model_validate({"bytes": 0.9, "students": own}))
