# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.schemas.errors import ConfigError, UnitError
from learn2compress.schemas.units import format_bytes, format_count, parse_bytes, parse_count


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512B", 512),
        ("60KB", 60_000),
        ("60 KB", 60_000),
        ("1.5MB", 1_500_000),
        ("60KiB", 61_440),
        ("2 MiB", 2_097_152),
        (".5 KB", 500),
        ("1,024", 1_024),
        ("24_000 B", 24_000),
        ("0.1KB", 100),
        (24_000, 24_000),
        (24_000.0, 24_000),
    ],
)
def test_parse_bytes_reads_decimal_and_binary_units(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["60 kb/s", "60kb", "KB", "", "6 0KB", "-5KB", "1.5B", -5, 0.5, float("nan"), float("inf"), True, None],
)
def test_parse_bytes_names_the_units_when_it_refuses(text):
    with pytest.raises(UnitError, match=r"units B, KB, MB, KiB, MiB, or none; got .*Write for example 48KB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("2M", 2_000_000), ("500K", 500_000), ("1.25 G", 1_250_000_000), ("78666", 78_666), (12, 12)],
)
def test_parse_count_reads_thousands_millions_and_billions(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["2MB", "2m", "many", "0.5", None])
def test_parse_count_names_the_units_when_it_refuses(text):
    with pytest.raises(UnitError, match=r"one of the units K, M, G.*got "):
        parse_count(text)


def test_unit_errors_are_configuration_errors_and_value_errors():
    with pytest.raises(ConfigError, match="60 kb/s"):
        parse_bytes("60 kb/s")
    with pytest.raises(ValueError, match="60 kb/s"):
        parse_bytes("60 kb/s")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1 KB"),
        (98_496, "98.5 KB"),
        (512_024, "512 KB"),
        (999_499, "999 KB"),
        (999_500, "1 MB"),
        (1_929_208, "1.93 MB"),
        (2_500_000_000, "2,500 MB"),
        (-1_500, "-1.5 KB"),
    ],
)
def test_format_bytes_keeps_three_digits(size, text):
    assert format_bytes(size) == text


@pytest.mark.parametrize("size", [0, 7, 999, 1_000, 48_200, 98_500, 1_930_000, 25_000_000])
def test_parse_bytes_reads_the_output_of_format_bytes(size):
    assert parse_bytes(format_bytes(size)) == size


@pytest.mark.parametrize(
    ("count", "text"),
    [(12, "12"), (78_666, "78.7K"), (12_501_632, "12.5M"), (1_200_000_000, "1.2G"), (999_999, "1M")],
)
def test_format_count_keeps_three_digits(count, text):
    assert format_count(count) == text


@pytest.mark.parametrize("size", [10**400, "9" * 30, "9" * 18 + "MB", 1e300])
def test_parse_bytes_refuses_a_size_that_no_parameter_can_hold(size):
    with pytest.raises(UnitError, match=r"^A size must be a whole number with one of the units"):
        parse_bytes(size)
