# SPDX-License-Identifier: Apache-2.0
"""The base class of manifests, of their parts, and of reports."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base class of manifests and reports: immutable, and unknown fields are refused instead of dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")
