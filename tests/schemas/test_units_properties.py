# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies.properties import examples

from learn2compress.schemas.errors import UnitError
from learn2compress.schemas.units import (
    BYTE_UNITS,
    COUNT_UNITS,
    format_bytes,
    format_count,
    parse_bytes,
    parse_count,
)

AMOUNTS = st.integers(0, 10**12)
Parse = Callable[[int | float | str], int]
Write = Callable[[float], str]

PARSERS = pytest.mark.parametrize("parse", [parse_bytes, parse_count])
PAIRS = pytest.mark.parametrize(("parse", "write"), [(parse_bytes, format_bytes), (parse_count, format_count)])


@PAIRS
@examples(50)
@given(amount=AMOUNTS)
def test_parse_reads_formatted_values_to_three_digits(parse: Parse, write: Write, amount: int) -> None:
    read = parse(write(amount))

    assert abs(read - amount) <= 0.005 * amount
    assert write(read) == write(amount)


@PAIRS
@examples(50)
@given(amounts=st.tuples(AMOUNTS, AMOUNTS).map(sorted))
def test_format_keeps_the_order(parse: Parse, write: Write, amounts: list[int]) -> None:
    assert parse(write(amounts[0])) <= parse(write(amounts[1]))


@pytest.mark.parametrize(
    ("parse", "unit", "factor"),
    [(parse_bytes, *unit) for unit in BYTE_UNITS.items()] + [(parse_count, *unit) for unit in COUNT_UNITS.items()],
)
@examples(20)
@given(amount=AMOUNTS, space=st.sampled_from(["", " "]))
def test_parse_is_exact_in_every_unit(parse: Parse, unit: str, factor: int, amount: int, space: str) -> None:
    assert parse(amount) == parse(str(amount)) == parse(f"{amount:,}") == amount
    most = (2**63 - 1) // factor  # what a parameter can hold
    assert parse(f"{min(amount, most)}{space}{unit}") == min(amount, most) * factor


@PARSERS
@examples(100)
@given(text=st.text(max_size=8) | st.text("0123456789.,_ KMGiB-+e", max_size=8) | st.floats())
def test_parse_reads_a_whole_number_or_refuses(parse: Parse, text: str | float) -> None:
    try:
        amount = parse(text)
    except UnitError:
        return
    assert type(amount) is int
    assert amount >= 0
