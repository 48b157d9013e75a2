# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from support.texts.students import CLASSES, LENGTH, small_family, texts_of

from learn2compress.compression.dictionary.model import TABLE
from learn2compress.compression.dictionary.rows import describe_spec, dictionary_costs, kept_fraction, prune_rows
from learn2compress.schemas.errors import FamilyError


def test_describe_spec_equals_the_specification_that_the_family_was_built_from():
    spec, family, dictionary = small_family("keys")
    assert describe_spec(family, spec.names, dictionary, CLASSES) == spec
    assert dictionary_costs(family, spec.names, dictionary.to_bytes(), CLASSES) == spec.costs()


def test_kept_fraction_meets_a_target_in_bytes():
    spec, family, dictionary = small_family("words")
    kept = kept_fraction(spec, {"bytes": 0.6})
    pruned = prune_rows(family, spec.names, dictionary, np.zeros((1, LENGTH), np.int32), kept)
    costs = dictionary_costs(pruned.family, spec.names, pruned.dictionary.to_bytes(), CLASSES)
    target = 0.6 * spec.costs()["large"].int8_bytes
    assert 0.93 * target < costs["large"].int8_bytes <= 1.01 * target


def test_kept_fraction_removes_a_fraction_of_the_rows():
    assert kept_fraction(small_family("keys")[0], {"fraction": 0.25}) == 0.75


@pytest.mark.parametrize(
    ("target", "match"),
    [({"macs": 0.5}, "must be bytes or a fraction"), ({"fraction": 0.99}, "must leave at least 16 rows in student")],
)
def test_kept_fraction_refuses_other_targets(target, match):
    with pytest.raises(FamilyError, match=match):
        kept_fraction(small_family("keys")[0], target)


def test_prune_rows_keeps_the_rows_with_the_largest_effect_and_their_logits():
    spec, family, dictionary = small_family("keys")
    ids = dictionary.lookup.encode(texts_of(dictionary, 60), LENGTH)
    pruned = prune_rows(family, spec.names, dictionary, ids, 0.5)
    nested = pruned.family.get_layer(TABLE)
    assert nested.rows == tuple(int(0.5 * student.rows) for student in spec.students)
    seen = {dictionary.entries[i - 1] for i in np.unique(ids) if i}
    assert set(pruned.dictionary.entries[: len(seen)]) == seen
    only_seen = ids[:20]
    entries = {entry: index + 1 for index, entry in enumerate(pruned.dictionary.entries)}
    moved = np.vectorize(lambda i: entries[dictionary.entries[i - 1]] if i else 0)(only_seen)
    before, after = (model(x, training=False)[-1] for model, x in ((family, only_seen), (pruned.family, moved)))
    assert np.allclose(before, after, atol=1e-4)
    assert pruned.effect == pytest.approx(1.0)


def test_select_students_copies_one_student():
    spec, family, dictionary = small_family("keys")
    ids = dictionary.lookup.encode(texts_of(dictionary, 10), LENGTH)
    alone = family.get_layer(TABLE).select_students(family, spec.names, ("small",))
    own = np.where(ids > spec.students[0].rows, 0, ids)
    assert np.allclose(alone(own, training=False), family(ids, training=False)[0], atol=1e-5)
