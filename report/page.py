# SPDX-License-Identifier: Apache-2.0
"""Draws a Report as one self-contained HTML page: no network, plots by plotly.js, which is packed into it.

What the page says is worked out here, in words and numbers ready to print; report.html.j2 places it, report.css
dresses it, and report.js adds what moves: plots, sorting, the switch between files. Without JavaScript everything
but the plots is there.

plotly.js comes with the Python package, 4.8 MB of it. It is embedded gzipped, 2 MB as text, and unpacked by the
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
from learn2compress.report.verdict import describe_verdict, list_files
from learn2compress.report.wording import format_ms
from learn2compress.schemas.reports import Report


def render_report(report: Report, thumbnails: Mapping[str, str]) -> str:
    """Draws the page.

    Args:
        report: What to show.
        thumbnails: Pictures of examples, data URIs by id; those that are missing are left out.

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
        rows=list_files(report),
        mistakes=list_mistakes(report),
        facts=list_facts(report),
        sensitivity=sensitivity_table(report),
        eight_bits=list_8_bit_effects(report),
        report=report,
        config=yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True),
    )


def _for_script(data: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _file(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _packed_plotly() -> str:
    """plotly.js, gzipped, as text. The package is found and not imported, which takes longer than all the rest."""
    folder = importlib.util.find_spec("plotly").submodule_search_locations[0]
    source = Path(folder, "package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(source, compresslevel=6, mtime=0)).decode()
