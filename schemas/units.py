# SPDX-License-Identifier: Apache-2.0
"""Reads and writes sizes and counts with units.

A size is `60KB`, `1.5 MB` (1,000), `60KiB`, `2 MiB` (1,024), `512B` or a plain number of bytes; a count is
`2M`, `500K`, `1.2G` or a plain number. Units are case-sensitive, since `kb` could also be a kilobit.
"""

import re
from decimal import Decimal

from learn2compress.schemas.errors import UnitError

BYTE_UNITS = {"B": 1, "KB": 1_000, "MB": 1_000_000, "KiB": 1_024, "MiB": 1_048_576}
COUNT_UNITS = {"K": 1_000, "M": 1_000_000, "G": 1_000_000_000}

_NUMBER_AND_UNIT = re.compile(r"\s*(\d[\d,_]*(?:\.\d+)?|\.\d+)\s*(\S*(?:\s+\S+)*)\s*", re.ASCII)


def parse_bytes(size: int | float | str) -> int:
    """Reads a size in bytes.

    Args:
        size: Whole number of bytes, or text such as `60KB`, `1.5 MiB`, `1,024 B`, `24000`.

    Raises:
        UnitError: The unit is unknown, or the size is not a number, negative or a fraction of a byte.
    """
    return _parse(size, "A size", BYTE_UNITS, "48KB, 1.5MB, 64KiB or 24000 (bytes)")


def parse_count(count: int | float | str) -> int:
    """Reads a count, such as that of multiply-accumulates.

    Args:
        count: Whole number, or text such as `2M`, `500K`, `1.2G`.

    Raises:
        UnitError: The unit is unknown, or the count is not a number, negative or not whole.
    """
    return _parse(count, "A count", COUNT_UNITS, "2M, 500K or 1200000")


def format_bytes(size: float) -> str:
    """Writes a size with three significant digits and the units of 1,000: `512 B`, `98.5 KB`, `1.93 MB`."""
    return _format(size, (("B", 1), ("KB", 1_000), ("MB", 1_000_000)), " ")


def format_count(count: float) -> str:
    """Writes a count with three significant digits: `512`, `78.7K`, `12.5M`, `1.2G`."""
    return _format(count, (("", 1), ("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)), "")


def format_points(difference: float) -> str:
    """Writes a difference of accuracies in percentage points: `0.4 points`, `1.0 point`, `0.03 points`."""
    points = f"{100 * difference:.1f}"
    if points in ("0.0", "-0.0"):
        points = f"{100 * difference:.2g}" if difference else "0.0"
    return f"{points} point{'s' * (points != '1.0')}"


def _parse(value: int | float | str, what: str, units: dict[str, int], examples: str) -> int:
    rule = f"{what} must be a whole number with one of the units {', '.join(units)}, or none; got {value!r}."
    remedy = f"Write for example {examples}."
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnitError(f"{rule} {remedy}")
    match = _NUMBER_AND_UNIT.fullmatch(f"{value:.17g}" if isinstance(value, float) else str(value))
    if match is None or (match[2] and match[2] not in units):
        raise UnitError(f"{rule} {remedy}")
    number = Decimal(match[1].replace(",", "").replace("_", "")) * units.get(match[2], 1)
    if number != int(number) or number >= 2**63:
        raise UnitError(f"{rule} {remedy}")
    return int(number)


def _format(number: float, units: tuple[tuple[str, int], ...], space: str) -> str:
    if number < 0:
        return "-" + _format(-number, units, space)
    for unit, factor in units:
        # The next unit is used if three digits are not enough: 999,600 is 1 M, not 1000 K.
        if number < 999.5 * factor or unit == units[-1][0]:
            break
    digits = f"{number / factor:.3g}" if number < 999.5 * factor else f"{number / factor:,.0f}"
    return f"{digits}{space}{unit}"
