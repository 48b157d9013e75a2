# SPDX-License-Identifier: Apache-2.0
"""What a check has found."""

from dataclasses import dataclass

OK, NOTE, FAULT = "ok", "note", "FAULT"


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    Attributes:
        check: What was tried.
        level: OK; NOTE: a run goes through, and something about it should be known; FAULT: it will not.
        detail: What was found, or the fault with its remedy.
    """

    check: str
    level: str
    detail: str

    @property
    def is_fault(self) -> bool:
        return self.level == FAULT

    @property
    def mark(self) -> str:
        """The level, as wide as the widest."""
        return f"{self.level:5}"
