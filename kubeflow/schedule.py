# SPDX-License-Identifier: Apache-2.0
"""When a recurring run starts: an interval (6h), or a cron expression with seconds (0 30 2 * * *)."""

import re
from dataclasses import dataclass
from typing import Any

from learn2compress.schemas.errors import ConfigError

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_INTERVAL = re.compile(r"(\d{1,6})([mhdw])")
_CRON_FIELDS = 6
_CRON_FIELD = re.compile(r"[\dA-Za-z*/,?\-]+")


@dataclass(frozen=True)
class Schedule:
    """When to run.

    Attributes:
        text: As it was given.
        seconds: Between two runs; None: the text is a cron expression.
    """

    text: str
    seconds: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read an interval or a cron expression.

        Raises:
            ConfigError: It is neither.
        """
        interval = _INTERVAL.fullmatch(text)
        if interval and int(interval[1]):
            return cls(text, int(interval[1]) * _UNITS[interval[2]])
        fields = text.split()
        if len(fields) == _CRON_FIELDS and all(_CRON_FIELD.fullmatch(field) for field in fields):
            return cls(text)
        raise ConfigError(
            f"--every must be an interval as 30m, 6h, 1d or 2w, or six cron fields, seconds first; got {text!r}. "
            "Every night at half past two: --every '0 30 2 * * *'"
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of kfp's client."""
        return {"interval_second": self.seconds} if self.seconds else {"cron_expression": self.text}
