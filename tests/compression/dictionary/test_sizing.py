# SPDX-License-Identifier: Apache-2.0
import pytest
from support.texts.students import SIZES, dictionary_of

from learn2compress.compression.dictionary.sizing import columns_for, requested_bytes, solve_dictionaries
from learn2compress.compression.dictionary.spec import DictionarySpec
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.errors import FamilyError


@pytest.mark.parametrize(("classes", "columns"), [(2, 1), (4, 3), (54, 8)])
def test_columns_for_is_one_less_than_the_classes_at_most_eight(classes, columns):
    assert columns_for(classes) == columns


def test_requested_bytes_orders_names_multiples_and_bytes():
    sizes = {"large": StudentSize(), "half": StudentSize(multiplier=0.5), "mine": StudentSize(size_bytes=7000)}
    assert requested_bytes(sizes) == {"mine": 7000, "half": 50_000, "large": 100_000}


@pytest.mark.parametrize("carrier", ["words", "keys"])
def test_solve_dictionaries_uses_the_budget_and_not_more(carrier):
    spec = solve_dictionaries(SIZES, 16, 3, 10, carrier, dictionary_of(carrier))
    for name, cost in spec.costs().items():
        assert 0.98 * SIZES[name].size_bytes < cost.int8_bytes <= SIZES[name].size_bytes
    assert spec.students[0].rows < spec.students[1].rows


def test_solve_dictionaries_estimates_the_words_before_they_are_known():
    before, after = (solve_dictionaries(SIZES, 16, 3, 10, "keys", known) for known in (None, dictionary_of("keys")))
    assert abs(before.students[1].rows - after.students[1].rows) < 20


def test_spec_is_read_back_from_its_dictionary_of_values():
    spec = solve_dictionaries(SIZES, 16, 3, 10, "keys")
    assert DictionarySpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ({"a": {"size_bytes": 2000}, "b": {"size_bytes": 9000}}, r"student 'a' must have at least [\d,]+ B"),
        ({"a": {"macs": 1000}, "b": {"size_bytes": 9000}}, "size of student 'a' must be in bytes"),
        ({"a": {}, "b": {"size_bytes": 9000}}, "student 'a' must be one of tiny, small"),
        ({"a": {"size_bytes": 9000}}, "must name at least two students"),
        ({"a": {"size_bytes": 900_000}, "b": {"size_bytes": 990_000}}, "student 'b' must be larger than 'a'"),
    ],
)
def test_solve_dictionaries_refuses_sizes_that_are_not_feasible(sizes, match):
    wanted = {name: StudentSize(**size) for name, size in sizes.items()}
    with pytest.raises(FamilyError, match=match):
        solve_dictionaries(wanted, 16, 3, 10, "keys", dictionary_of("keys"))
