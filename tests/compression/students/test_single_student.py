# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.compression.family.model import build_family, normalize
from learn2compress.compression.family.spec import student_cost
from learn2compress.compression.students.single_student import single_student
from learn2compress.schemas.errors import FamilyError


@pytest.fixture
def manifest(stripes, trained_family, tmp_path):
    return stripes.write_family(tmp_path, trained_family)


@pytest.mark.parametrize(("index", "student"), [(0, "small"), (1, "large")])
def test_single_student_has_the_logits_of_the_family(stripes, trained_family, manifest, index, student):
    images = normalize(stripes.draw(9, 4)[0])

    alone, about = single_student(trained_family, manifest, student)

    np.testing.assert_array_equal(alone(images), trained_family(images)[index])
    assert [one.name for one in about.students] == [student]
    built = build_family(stripes.SPEC.single(student))
    assert [layer.name for layer in alone.layers] == [layer.name for layer in built.layers]
    assert about.family_spec == stripes.SPEC.single(student).to_dict()


def test_single_student_has_the_cost_of_the_student(stripes):
    for student in stripes.SPEC.students:
        assert student_cost(stripes.SPEC.single(student), student) == student_cost(stripes.SPEC, student)


def test_single_student_refuses_an_unknown_name(trained_family, manifest):
    with pytest.raises(FamilyError, match="student 'medium' must be one of the set, which are small, large"):
        single_student(trained_family, manifest, "medium")
