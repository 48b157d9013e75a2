# SPDX-License-Identifier: Apache-2.0
"""Prints a lineage as a text tree for 100 columns: first the file, then the steps behind it."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from learn2compress.cli.lineage.output import duration, limits_text, moment, percent, verdict_text
from learn2compress.modalities import modality_of
from learn2compress.schemas.lineage import ArtifactView, Chain, DataView, LineageReport, Step, TeacherView
from learn2compress.schemas.manifests import Task
from learn2compress.schemas.units import format_bytes, format_count

_QUIET = {"code_version"}
_STYLES = {"whole": "green", "unknown": "red", "tampered": "bold red", "incomplete": "yellow"}


def print_tree(console: Console, report: LineageReport) -> None:
    """Print a lineage."""
    for number, chain in enumerate(report.chains, 1):
        console.print(_chain(report, chain, number))
    if report.more_chains:
        console.print(f"… and {report.more_chains} more runs made the same bytes; see --chains.")
    if not report.chains:
        console.print(Text.assemble(_head(report), "\nNo record at ", report.location, " lists these bytes."))
    console.print(Text.assemble("Lineage: ", (report.status, _STYLES[report.status])))


def _head(report: LineageReport) -> Text:
    size = f"  {format_bytes(report.bytes)}" if report.bytes >= 0 else ""
    return Text.assemble((report.file, "bold"), size, f"\nSHA-256 {report.sha256}")


def _chain(report: LineageReport, chain: Chain, number: int) -> Tree:
    count = len(report.chains) + report.more_chains
    which = f" (made {count} times; this is number {number})" if count > 1 else ""
    about = f"\n{chain.output} of {chain.steps[0].node}, run {chain.run}{which}\nat {chain.uri}"
    tree = Tree(Text.assemble(_head(report), about))
    _add_figures(tree, chain)
    for choice in chain.choices:
        rule = f"by {choice.objective}, {limits_text(choice.limits)}"
        verdict = verdict_text(choice.status, choice.reason)
        tree.add(Text.assemble(("Choice  ", "bold"), f"{verdict}  ({rule}; {choice.record})"))
    if chain.siblings:
        tree.add(Text("Siblings", style="bold")).add(_siblings(chain))
    if chain.teacher:
        tree.add(_teacher(chain.teacher, "Teacher  "))
    if chain.trained_teacher:
        tree.add(_teacher(chain.trained_teacher, "Teacher, jointly trained  "))
    if chain.data:
        tree.add(_data(chain.data))
    if chain.calibration:
        images, split = chain.calibration.get("images"), chain.calibration.get("split")
        digest = chain.calibration.get("digest")
        tree.add(Text.assemble(("Calibration  ", "bold"), f"{images} images of {split}\nset {digest}"))
    if chain.copies:
        tree.add(Text.assemble(("Copied to  ", "bold"), "\n".join(chain.copies)))
    if chain.served:
        more = f" and {len(chain.served) - 3} more" if len(chain.served) > 3 else ""
        tree.add(Text.assemble(("Served from the cache  ", "bold"), ", ".join(chain.served[:3]) + more))
    steps = tree.add(Text("Steps, from the file back to its sources", style="bold"))
    names = {step.record: step.node for step in chain.steps}
    common = _common(chain.steps)
    for step in chain.steps:
        _add_step(steps, step, names, common)
    tree.add(Text.assemble(("Ran with  ", "bold"), _environment(chain.steps[0])))
    return tree


def _add_figures(tree: Tree, chain: Chain) -> None:
    if not chain.measurements:
        tree.add(Text.assemble(("Figures  ", "bold"), "no measurement of these bytes is recorded"))
    for measurement in chain.measurements:
        figures = measurement.figures
        host = measurement.host.get("name", "")
        title = f"measured on these bytes, {moment(measurement.finished)}" + (f", on {host}" if host else "")
        branch = tree.add(Text.assemble(("Figures  ", "bold"), f"{title}  ({measurement.record})"))
        for split, found in figures.get("figures", {}).items():
            agreement = found.get("agreement")
            with_teacher = "" if agreement is None else f", agrees with the teacher on {percent(agreement)}"
            line = f"{split}: {percent(found.get('top1'))} of {found.get('images', 0):,} images{with_teacher}"
            branch.add(Text(line))
        latency = [f"{one['p50_ms']:.3g} ms with {one['threads']} thread(s)" for one in figures.get("latency", [])]
        macs = figures.get("macs")
        parts = [
            f"{figures['bytes']:,} B" if "bytes" in figures else "",
            f"{figures['gzip_bytes']:,} B gzip" if figures.get("gzip_bytes") else "",
            f"{format_count(macs)} MACs" if macs else "",
            *latency,
        ]
        branch.add(Text(" · ".join(part for part in parts if part)))


def _siblings(chain: Chain) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    for column in ("model", "bytes", "validation", "test", "latency"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for sibling in chain.siblings:
        table.add_row(
            sibling.name,
            f"{sibling.bytes:,}",
            percent(sibling.validation_accuracy),
            percent(sibling.test_accuracy),
            "–" if sibling.latency_ms is None else f"{sibling.latency_ms:.3g} ms",
            Text(verdict_text(sibling.status, sibling.reason) if sibling.status else "–"),
        )
    return table


def _teacher(teacher: TeacherView, title: str) -> Text:
    about = teacher.manifest or {}
    accuracy = about.get("accuracy") or {
        split: teacher.properties[f"{split}_accuracy"]
        for split in ("validation", "test")
        if f"{split}_accuracy" in teacher.properties
    }
    parts = [
        str(about.get("format") or teacher.properties.get("format") or ""),
        format_bytes(int(about["bytes"])) if about.get("bytes") else "",
        f"{about['parameters']:,} parameters" if about.get("parameters") else "",
        *(f"{split} {percent(value)}" for split, value in accuracy.items()),
    ]
    facts = " · ".join(part for part in parts if part)
    return Text.assemble((title, "bold"), f"{facts}\nSHA-256 {teacher.sha256}\nat {teacher.uri}")


def _data(data: DataView) -> Text:
    about = data.manifest or {}
    counts = about.get("counts") or {
        key.removesuffix("_images"): value for key, value in data.properties.items() if key.endswith("_images")
    }
    task = about.get("task", {})
    parts = [f"{count:,} {split}" for split, count in counts.items()]
    if task:
        parts.append(f"{len(task['classes'])} classes")
        described = Task.model_validate(task)
        parts.append(modality_of(described).presentation(described).size)
    if about.get("skipped_count"):
        parts.append(f"{about['skipped_count']} skipped")
    return Text.assemble(("Data  ", "bold"), f"{' · '.join(parts)}\nsource {data.digest}\nat {data.uri}")


def _add_step(tree: Tree, step: Step, names: dict[str, str], common: dict[str, Any]) -> None:
    seed = "" if step.seed is None else f"  seed {step.seed}"
    cached = "  from the cache" if step.cached else ""
    run = "" if step.run == common["run"] else f"  run {step.run}"
    title = f"  {moment(step.started)}  {duration(step.seconds)}{seed}{cached}{run}"
    branch = tree.add(Text.assemble((step.node, "bold cyan"), title, (f"  {step.record}", "dim")))
    if step.inputs:
        # No-break spaces keep an input and its source on one line.
        reads = [f"{one.key}\u00a0◄\u00a0{names.get(one.record or '', one.record or 'unknown')}" for one in step.inputs]
        branch.add(Text.assemble(("reads  ", "dim"), ", ".join(reads)))
    branch.add(Text.assemble(("makes  ", "dim"), ", ".join(map(_made, step.outputs))))
    parameters = {key: value for key, value in step.parameters.items() if key not in _QUIET and key != "seed"}
    if parameters:
        shown = "  ".join(f"{key}\u00a0{_short(value)}" for key, value in parameters.items())
        branch.add(Text.assemble(("with   ", "dim"), shown))
    if step.packages != common["packages"] or step.code != common["code"] or step.platform != common["platform"]:
        branch.add(Text.assemble(("ran with  ", "dim"), _environment(step)))


def _made(output: ArtifactView) -> str:
    files = "a file" if output.files == 1 else f"{output.files:,} files"
    return f"{output.key} ({files}, {format_bytes(output.bytes or 0)}, {output.digest[:12]}…)"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 48 else f"{text[:20]}…{text[-12:]}"


def _common(steps: list[Step]) -> dict[str, Any]:
    first = steps[0]
    return {"run": first.run, "packages": first.packages, "code": first.code, "platform": first.platform}


def _environment(step: Step) -> str:
    code = step.code
    commit = f", commit {code['commit'][:12]}" if code.get("commit") else ""
    changed = " with changes" if code.get("dirty") else ""
    packages = ", ".join(f"{name}\u00a0{version}" for name, version in step.packages.items())
    return f"learn2compress {code.get('version', '?')}{commit}{changed}; {packages}; {step.platform}"
