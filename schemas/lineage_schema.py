# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of what the lineage commands print with --json, as their answers define it.

`python -m learn2compress.schemas.lineage_schema` writes schemas/lineage.schema.json anew.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter

from learn2compress.schemas import lineage

PATH = Path(__file__).with_name("lineage.schema.json")
REPORTS = (
    lineage.LineageReport,
    lineage.VerifyReport,
    lineage.ImpactReport,
    lineage.DiffReport,
    lineage.HistoryReport,
    lineage.RebuildReport,
    lineage.ReplayReport,
)


def lineage_schema() -> dict[str, Any]:
    """Describe all answers in one document; `command` tells which of them one is."""
    schema = TypeAdapter(Annotated[Union[REPORTS], Field(discriminator="command")]).json_schema()  # noqa: UP007
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What the lineage commands of learn2compress print with --json",
        **schema,
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(lineage_schema(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
