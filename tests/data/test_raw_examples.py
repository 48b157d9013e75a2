# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.data.raw_examples import order_classes
from learn2compress.schemas.errors import DataError


@pytest.mark.parametrize("name", ["two\nlines", "two\u2028lines", "a\rb", "tab\tbed", "\x1b[31mred"])
def test_order_classes_refuses_a_name_that_is_not_one_line(name: str) -> None:
    with pytest.raises(DataError, match=r"class names of x\.npz must be one printable line each.* Rename the class"):
        order_classes(["a", name], None, "x.npz")


def test_order_classes_takes_names_of_any_script() -> None:
    assert order_classes(["Käse/Milch", "犬 🐕"], None, "x.npz") == ("Käse/Milch", "犬 🐕")
