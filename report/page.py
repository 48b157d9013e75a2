# SPDX-License-Identifier: Apache-2.0
"""Renders a Report as one self-contained HTML page without network access; plotly.js is embedded.

This module and its neighbours compute the page's contents as words and numbers. report.html.j2 arranges them,
report.css styles them, and report.js adds plots, sorting and the switch between files. Without JavaScript, everything
except the plots is visible.

plotly.js comes with the Python package and has 4.8 MB. It is embedded gzipped, as 2 MB of text, and unpacked by the
browser.
"""

import base64
import gzip
import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from learn2compress.report.facts import list_facts
from learn2compress.report.layer_effects import list_8_bit_effects, sensitivity_table
from learn2compress.report.mistakes import list_mistakes, thumbnails_used
from learn2compress.report.plots import build_curves, build_plots
from learn2compress.report.shortfall import find_shortfall
from learn2compress.report.verdict import describe_verdict, list_files
from learn2compress.report.wording import format_ms
from learn2compress.schemas.reports import Report


def render_report(report: Report, thumbnails: Mapping[str, str]) -> str:
    """Render the page.

    Args:
        report: The report.
        thumbnails: Previews of examples by id: data URIs of images, or the beginnings of texts; examples without one
            are left out.

    Returns:
        HTML.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["ms"] = lambda value: "–" if value is None else format_ms(value)
    template = environment.from_string(_file("report.html.j2"))
    return template.render(
        css=_file("report.css"),
        js=_file("report.js"),
        plotly=_packed_plotly(),
        data=_for_script(
            {
                "plots": build_plots(report),
                "curves": build_curves(report),
                "thumbnails": thumbnails_used(report, thumbnails),
            }
        ),
        thumbnails=thumbnails,
        verdict=describe_verdict(report),
        shortfall=find_shortfall(report),
        rows=list_files(report),
        mistakes=list_mistakes(report),
        facts=list_facts(report),
        sensitivity=sensitivity_table(report),
        eight_bits=list_8_bit_effects(report),
        report=report,
        modality=report.evaluation.task.modality,
        config=yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True),
    )


def _for_script(data: Any) -> str:
    """Serialize data as JSON that cannot close the script element that contains it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _file(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


@cache
def _packed_plotly() -> str:
    """Return plotly.js, gzipped and base64-encoded; the package is located but not imported, which would be slow."""
    package = importlib.util.find_spec("plotly")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("plotly must be installed to render a report; it is not. Install it with pip.")
    source = Path(package.submodule_search_locations[0], "package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(source, compresslevel=6, mtime=0)).decode()
