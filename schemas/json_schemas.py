# SPDX-License-Identifier: Apache-2.0
"""Builds the JSON Schemas of report.json and of the output of the lineage commands with --json.

`python -m learn2compress.schemas.json_schemas` rewrites schemas/report.schema.json and schemas/lineage.schema.json.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from learn2compress.schemas import lineage
from learn2compress.schemas.reports import Report

REPORT_PATH = Path(__file__).with_name("report.schema.json")
LINEAGE_PATH = Path(__file__).with_name("lineage.schema.json")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_AnyLineageReport = Annotated[
    lineage.LineageReport
    | lineage.VerifyReport
    | lineage.ImpactReport
    | lineage.DiffReport
    | lineage.HistoryReport
    | lineage.RebuildReport
    | lineage.ReplayReport,
    Field(discriminator="command"),
]


def report_schema() -> dict[str, Any]:
    """Builds the schema of report.json."""
    return {"$schema": _DIALECT, **Report.model_json_schema(mode="serialization")}


def lineage_schema() -> dict[str, Any]:
    """Builds one schema for the output of all lineage commands; its field `command` tells them apart."""
    adapter: TypeAdapter[Any] = TypeAdapter(_AnyLineageReport)
    schema = adapter.json_schema()
    return {"$schema": _DIALECT, "title": "Output of the lineage commands of learn2compress with --json", **schema}


def _write(path: Path, schema: dict[str, Any]) -> None:
    path.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write(REPORT_PATH, report_schema())
    _write(LINEAGE_PATH, lineage_schema())
