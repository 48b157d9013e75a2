# SPDX-License-Identifier: Apache-2.0
"""The limits of the costs of a student, to which a family is solved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from learn2compress.compression.family.spec import Cost
from learn2compress.schemas.errors import FamilyError


@dataclass(frozen=True)
class Budget:
    """The limits of a student: bytes of its int8 file, MACs, milliseconds of an inference; at least one is set."""

    student: str
    int8_bytes: int | None = None
    macs: int | None = None
    latency_ms: float | None = None

    @property
    def kind(self) -> tuple[bool, bool, bool]:
        """Which of the limits are set."""
        return self.int8_bytes is not None, self.macs is not None, self.latency_ms is not None

    @property
    def limit(self) -> float:
        """The first limit, by which students are ordered."""
        limit = next((one for one in (self.int8_bytes, self.macs, self.latency_ms) if one is not None), None)
        if limit is None:
            raise FamilyError(
                f"the budget of student {self.student!r} must be bytes, MACs or milliseconds; got none. Give one."
            )
        return limit

    def usage(self, cost: Cost, margin: int = 0) -> float:
        """Compute the largest fraction of a limit that a cost uses; above 1 it exceeds the budget.

        Args:
            cost: The cost.
            margin: Bytes that are added to those of the file.
        """
        return max(value / limit for value, limit in self._limited(cost, margin))

    def unused(self, cost: Cost) -> list[float]:
        """Compute the logarithm of limit to cost for each limit, the one that is used most first."""
        return sorted(math.log(limit / value) for value, limit in self._limited(cost))

    def show(self, cost: Cost) -> str:
        """Format the limited costs so that, in a message, they can be used as a budget: unrounded, or rounded up."""
        shown = []
        if self.int8_bytes is not None:
            shown.append(f"{cost.int8_bytes:,} B")
        if self.macs is not None:
            shown.append(f"{cost.macs:,} MACs")
        if self.latency_ms is not None:
            shown.append(f"{_round_up(cost.predicted_ms):g} ms")
        return " and ".join(shown)

    def __str__(self) -> str:
        limits = ((self.int8_bytes, "B"), (self.macs, "MACs"), (self.latency_ms, "ms"))
        return " and ".join(f"{limit:,} {unit}" for limit, unit in limits if limit is not None)

    def _limited(self, cost: Cost, margin: int = 0) -> Iterator[tuple[float, float]]:
        """Yield each limited cost with its limit."""
        if self.int8_bytes is not None:
            yield cost.predicted_bytes + margin, self.int8_bytes
        if self.macs is not None:
            yield cost.macs, self.macs
        if self.latency_ms is not None:
            yield cost.predicted_ms, self.latency_ms


def _round_up(value: float, digits: int = 4) -> float:
    """Round a positive number up to a number of significant digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - digits)
    return float(f"{math.ceil(value / unit) * unit:.{digits}g}")
