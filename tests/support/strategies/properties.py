# SPDX-License-Identifier: Apache-2.0
"""Provides repeatable settings and damaged bytes for property tests."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st


def examples(count: int) -> settings:
    """Makes settings for a number of examples: deterministic, without time limit and without a database on disk."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Draws bytes that are cut, overwritten, repeated or extended in one to four places."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 16)))
        data[start:stop] = draw(st.binary(max_size=16) | st.just(bytes(data[start:stop]) * 2) | st.just(b""))
    return bytes(data)


@st.composite
def with_flipped_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Draws bytes of the same length, of which one to eight have other values."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)
