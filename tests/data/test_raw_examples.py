# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.data.raw_examples import check_most_classes, order_classes
from learn2compress.schemas.errors import DataError


@pytest.mark.parametrize("name", ["two\nlines", "two\u2028lines", "a\rb", "tab\tbed", "\x1b[31mred"])
def test_order_classes_refuses_a_name_that_is_not_one_line(name: str) -> None:
    with pytest.raises(DataError, match=r"class names of x\.npz must be one printable line each.* Rename the class"):
        order_classes(["a", name], None, "x.npz")


def test_order_classes_takes_names_of_any_script() -> None:
    assert order_classes(["Käse/Milch", "犬 🐕"], None, "x.npz") == ("Käse/Milch", "犬 🐕")


def test_check_most_classes_refuses_a_label_that_would_name_millions() -> None:
    check_most_classes(99_999, "x.npz")

    with pytest.raises(DataError, match=r"labels in x\.npz must be below 100,000; got 4000000000"):
        check_most_classes(4_000_000_000, "x.npz")
