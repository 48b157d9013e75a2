# SPDX-License-Identifier: Apache-2.0
"""Writes a lineage as one self-contained HTML page: the graph, followed by each step in full."""

from jinja2 import Environment

from learn2compress.cli.lineage.drawing import draw, to_svg
from learn2compress.cli.lineage.output import duration, limits_text, moment, percent, verdict_text
from learn2compress.schemas.lineage import LineageReport
from learn2compress.schemas.units import format_bytes

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lineage of {{ report.file.rsplit("/", 1)[-1] }}</title>
<style>
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; --line: #c5ccd6; --soft: #f3f5f8; --accent: #1f6feb;
  --good: #1a7f37; --bad: #c62828; --on: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --paper: #14181f; --line: #3b4553; --soft: #1e242d;
  --accent: #6aa5ff; --good: #56c271; --bad: #ff7b72;
  --on: #14181f; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
code, .digest { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.status { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; color: var(--on);
  background: var(--bad); }
.status.whole { background: var(--good); }
.scroll { overflow-x: auto; }
.graph { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
svg { display: block; max-width: none; margin: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); text-anchor: middle; } svg .title { font-weight: 600; font-size: 14px; }
svg rect { fill: var(--soft); stroke: var(--line); } svg .file rect { stroke: var(--accent); stroke-width: 2.5; }
svg .measure rect { stroke-dasharray: 4 3; } svg .missing rect { stroke: var(--bad); stroke-dasharray: 2 3; }
svg .edge { fill: none; stroke: var(--line); stroke-width: 1.6; } svg .head { fill: var(--line); }
svg .label { font-size: 11px; fill: var(--ink); paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .2rem .6rem .2rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; } td.n, th.n { text-align: right; white-space: nowrap; }
td { overflow-wrap: anywhere; }
@media (max-width: 40rem) { .siblings td:last-child, .siblings th:last-child { min-width: 14rem; } }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .4rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; } .dim { opacity: .8; } .tampered { color: var(--bad); font-weight: 600; }
</style>
</head>
<body>
<main>
<h1>{{ report.file.rsplit("/", 1)[-1] }}</h1>
<p class="digest">SHA-256 {{ report.sha256 }}
{% if report.bytes >= 0 %} · {{ "{:,}".format(report.bytes) }} B{% endif %}</p>
<p><span class="status {{ report.status }}">{{ report.status }}</span> according to the records at
<code>{{ report.location }}</code></p>
{% if report.problems %}<ul>{% for problem in report.problems %}
<li><span class="{{ problem.kind }}">{{ problem.kind }}</span>: <code>{{ problem.where }}</code>
{{ problem.reason }}</li>
{% endfor %}</ul>{% endif %}
{% if report.chains %}<div class="graph" role="region" aria-label="Graph of the steps"
tabindex="0">{{ svg | safe }}</div>{% endif %}
{% for chain in report.chains %}
<h2>Run {{ chain.run }}</h2>
<p>{{ chain.output }} of {{ chain.steps[0].node }}, made {{ moment(chain.finished) }}; <code>{{ chain.uri }}</code></p>
<table>
{% if chain.trained_teacher %}<tr><th>Teacher, jointly trained</th><td>
<span class="digest">{{ chain.trained_teacher.sha256 }}</span></td></tr>{% endif %}
{% if chain.teacher %}<tr><th>Teacher</th><td><span class="digest">{{ chain.teacher.sha256 }}</span><br>
{% for key, value in chain.teacher.properties.items() if key not in hidden %}{{ key }} {{ value }}
{% if not loop.last %} · {% endif %}{% endfor %}</td></tr>{% endif %}
{% if chain.data %}<tr><th>Data</th><td><span class="digest">{{ chain.data.digest }}</span><br>
{% for split, count in (chain.data.manifest or {}).get("counts", {}).items() %}{{ "{:,}".format(count) }} {{ split }}
{% if not loop.last %}· {% endif %}{% endfor %}</td></tr>{% endif %}
{% if chain.calibration %}<tr><th>Calibration</th><td>{{ chain.calibration.images }} images of
{{ chain.calibration.split }}<br><span class="digest">{{ chain.calibration.digest }}</span></td></tr>{% endif %}
{% for one in chain.measurements %}<tr><th>Figures</th><td>
{% for split, found in one.figures.get("figures", {}).items() %}
{{ split }} {{ percent(found.get("top1")) }} of {{ "{:,}".format(found.get("images", 0)) }}
{% if not loop.last %}· {% endif %}{% endfor %}
<br><span class="dim">{{ one.record }}, {{ moment(one.finished) }}</span></td></tr>{% endfor %}
{% for choice in chain.choices %}<tr><th>Choice</th><td>{{ verdict(choice.status, choice.reason) }}<br>
<span class="dim">{{ choice.record }}, by {{ choice.objective }}, {{ limits(choice.limits) }}</span></td></tr>
{% endfor %}</table>
{% if chain.siblings %}<h2>Siblings</h2>
<div class="scroll" role="region" aria-label="Siblings in run {{ chain.run }}" tabindex="0"><table class="siblings">
<tr><th>Model</th><th class="n">Bytes</th><th class="n">Validation</th>
<th class="n">Test</th><th>Verdict</th></tr>
{% for one in chain.siblings %}<tr><td title="{{ one.sha256 }}">{{ one.name }}</td>
<td class="n">{{ "{:,}".format(one.bytes) }}</td><td class="n">{{ percent(one.validation_accuracy) }}</td>
<td class="n">{{ percent(one.test_accuracy) }}</td>
<td>{% if one.status %}{{ verdict(one.status, one.reason) }}{% else %}–{% endif %}</td></tr>{% endfor %}</table>
</div>{% endif %}
<h2>Steps, from the file back to its sources</h2>
{% for step in chain.steps %}<details><summary><b>{{ step.node }}</b> <span class="dim">{{ moment(step.started) }},
{{ duration(step.seconds) }}{% if step.seed is not none %}, seed {{ step.seed }}{% endif %}{% if step.cached %},
from the cache{% endif %}</span></summary>
<table>
<tr><th>Record</th><td><code>{{ step.record }}</code></td></tr>
{% for one in step.inputs %}<tr><th>Reads</th><td>{{ one.key }} <code>{{ one.uri }}</code><br>
<span class="digest">{{ one.digest }}</span> <span class="dim">made by {{ one.record or "?" }}</span></td></tr>
{% endfor %}
{% for one in step.outputs %}<tr><th>Makes</th><td>{{ one.key }} <code>{{ one.uri }}</code>, {{ one.files }} files,
{{ size(one.bytes or 0) }}<br><span class="digest">{{ one.digest }}</span></td></tr>{% endfor %}
{% for key, value in step.parameters.items() %}
<tr><th>{{ key }}</th><td><code>{{ value }}</code></td></tr>{% endfor %}
<tr><th>Code</th><td><code>{{ step.code.get("version") }} {{ step.code.get("commit", "") }}
{% if step.code.get("dirty") %} with changes{% endif %}</code></td></tr>
<tr><th>Packages</th><td>{% for name, version in step.packages.items() %}{{ name }} {{ version }}
{% if not loop.last %}· {% endif %}{% endfor %}</td></tr>
<tr><th>Platform</th><td>{{ step.platform }}</td></tr>
</table></details>
{% endfor %}
{% endfor %}
</main>
</body>
</html>
"""
_HIDDEN = {"is_external", "tfx_version", "provenance", "tree_sha256", "sha256"}


def to_page(report: LineageReport) -> str:
    """Write the page."""
    template = Environment(autoescape=True).from_string(_PAGE)
    return template.render(
        report=report,
        svg=to_svg(draw(report)),
        hidden=_HIDDEN,
        moment=moment,
        duration=duration,
        percent=percent,
        limits=limits_text,
        verdict=verdict_text,
        size=format_bytes,
    )
