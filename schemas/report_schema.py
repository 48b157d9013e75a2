# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of report.json, as the records define it. `python -m learn2compress.schemas.report_schema` writes
schemas/report.schema.json anew."""

import json
from pathlib import Path
from typing import Any

from learn2compress.schemas.reports import Report

PATH = Path(__file__).with_name("report.schema.json")


def report_schema() -> dict[str, Any]:
    """Builds the schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Report.model_json_schema(mode="serialization"),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(report_schema(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
