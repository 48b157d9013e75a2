# SPDX-License-Identifier: Apache-2.0
"""Reads back the configuration of a recorded file, and compares a repeated run with the recorded one.

The comparison tells whether the bytes are the same, which step is the first with a difference, and whether the figures
agree within a tolerance. The configuration is read back from the nodes' parameters. The teacher and the data must be
the recorded ones: their digests are compared before anything runs. If the teacher's file is missing, the copy among the
artifacts is used. The limits of the selection are left out, since only the figures of the file are compared.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from learn2compress.lineage.graph import Graph
from learn2compress.lineage.index import Entry
from learn2compress.lineage.queries.diff import environment_differences
from learn2compress.lineage.queries.trace import lineage_of_digest
from learn2compress.schemas import config as configuration
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.errors import LineageError, first_fault
from learn2compress.schemas.files.inside import path_inside
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.lineage import Chain, LineageReport, ReplayedFigure, ReplayReport, status_of
from learn2compress.schemas.module_source import ModuleSource
from learn2compress.schemas.parameters import decode
from learn2compress.schemas.provenance import Output

TOLERANCE = 0.02
_SECTIONS: dict[str, type[BaseModel]] = {
    "teacher": configuration.TeacherConfig,
    "data": configuration.DataConfig,
    "students": configuration.StudentsConfig,
    "distill": configuration.DistillConfig,
    "prune": configuration.PruneConfig,
    "quantize": configuration.QuantizeConfig,
    "evaluate": configuration.EvaluateConfig,
}
# Keys of values that depend on the time or on the machine.
_TIMES = {"seconds", "created", "latency", "host"}
_FIGURES = ("top1", "agreement")


def recorded_module(graph: Graph, report: LineageReport) -> ModuleSource | None:
    """Read the Python module of a user's own students from the records, which a replay would run.

    Raises:
        LineageError: Its text is not the one whose digest was recorded.
    """
    parameters = _parameters(graph, _chain(report))
    source = ModuleSource.from_parameters(parameters)
    if source is not None and source.sha256 != parameters.get("module_sha256"):
        raise LineageError(
            f"the recorded module {source.name!r} must have the SHA-256 {parameters.get('module_sha256')}; got "
            f"{source.sha256}. The records were changed; take them from their source again."
        )
    return source


def replay_config(
    graph: Graph,
    report: LineageReport,
    output: Path,
    teacher: Path | None = None,
    data: str | None = None,
    trust: bool = False,
) -> tuple[configuration.Config, int | None]:
    """Read back the configuration with which a file was made.

    Args:
        graph: Graph of the records.
        report: Lineage of the file.
        output: Folder of the replay, to which the source of a user's own students is written.
        teacher: Path of the teacher, if it differs from the recorded one.
        data: Path of the data, if it differs from the recorded one.
        trust: Whether a SavedModel that uses files, the network or Python may be loaded; see `teacher.trust`.

    Returns:
        The configuration, and the limit on examples.

    Raises:
        LineageError: No record contains the file, steps are missing, or the teacher or the data are not the recorded
            ones.
    """
    chain = _chain(report)
    parameters = _parameters(graph, chain)
    if "teacher_sha256" not in parameters or "data_digest" not in parameters:
        raise LineageError(f"The steps behind {report.file} must reach teacher and data; some are missing.")
    found = dict(parameters)
    found["teacher_path"] = str(_find_teacher(graph, chain, parameters, teacher))
    if data is not None:
        found["data_path"] = data
    source = recorded_module(graph, report)
    found.pop("students_module", None)  # only the text that was recorded and agreed to is run, no file that is named
    if source is not None:
        module = path_inside(output / "replayed", source.name)
        module.parent.mkdir(parents=True, exist_ok=True)
        write_whole(module, source.text)
        found["students_module"] = f"{module}:{source.function}"
    if found.get("latency_model"):
        table = path_inside(output / "replayed", "latency_model.json")
        table.parent.mkdir(parents=True, exist_ok=True)
        write_whole(table, found["latency_model"])
        found["students_latency_table"] = str(table)
    # Figures measured on a phone are not measured again here.
    found.pop("evaluate_device_results", None)
    try:
        sections = {name: decode(section, name, found) for name, section in _SECTIONS.items()}
        sections["teacher"] = sections["teacher"].model_copy(update={"trust": trust})
        config = configuration.Config(
            **sections,
            pipeline=configuration.PipelineConfig(name=chain.pipeline, seed=int(parameters.get("seed", 0))),
            kubeflow=configuration.KubeflowConfig(fan_out="student" in parameters),
        )
    except ValidationError as error:
        raise LineageError(
            f"The recorded parameters must be a configuration of this version; {first_fault(error)}."
        ) from error
    _check_data(config.data, parameters["data_digest"])
    return config, parameters.get("limit")


def compare_replay(
    graph: Graph, report: LineageReport, replayed: Graph, output: Path, tolerance: float = TOLERANCE
) -> ReplayReport:
    """Compare a file's recorded lineage with that of its replay.

    Args:
        graph: Graph of the recorded run.
        report: Lineage of the file.
        replayed: Graph of the replay.
        output: Folder of the replay.
        tolerance: Largest difference of an accuracy, and of the bytes, as a fraction.

    Returns:
        The steps, environments and figures that differ.

    Raises:
        LineageError: The replay has not made the file.
    """
    chain = _chain(report)
    again = _chain(_trace_same(replayed, chain))
    before = {step.node: graph.index.entry_at(step.record) for step in chain.steps}
    after = {step.node: replayed.index.entry_at(step.record) for step in again.steps}
    differing = [
        step.node
        for step in reversed(chain.steps)
        if step.node not in after or _differs(graph, before[step.node], replayed, after[step.node])
    ]
    steps = {step.node: step for step in again.steps}
    environment = [
        difference
        for step in chain.steps[:1]
        if step.node in steps
        for difference in environment_differences(step.node, step, steps[step.node])
    ]
    figures = list(_compare_figures(chain, again, tolerance))
    problems = report.problems
    return ReplayReport(
        status=status_of(problems),
        location=report.location,
        output=str(output),
        tolerance=tolerance,
        same_bytes=_file_sha256(graph, chain) == _file_sha256(replayed, again),
        within_tolerance=all(figure.within for figure in figures),
        first_different_step=differing[0] if differing else None,
        differing_steps=differing,
        environment=environment,
        figures=figures,
        problems=problems,
    )


def _chain(report: LineageReport) -> Chain:
    if not report.chains:
        raise LineageError(f"{report.file} must be a recorded file; no record at {report.location} contains it.")
    return report.chains[0]


def _parameters(graph: Graph, chain: Chain) -> dict[str, Any]:
    """Merges the parameters of all steps and of the measurement; only `code_version` may differ between them."""
    parameters: dict[str, Any] = {}
    for measurement in chain.measurements[:1]:
        entry = graph.index.entry_at(measurement.record)
        if entry is not None:
            parameters |= graph.statement(entry).parameters
    for step in chain.steps:
        parameters |= step.parameters
    return parameters


def _find_teacher(graph: Graph, chain: Chain, parameters: Mapping[str, Any], given: Path | None) -> Path:
    wanted = parameters["teacher_sha256"]
    candidates = [given] if given else [Path(parameters["teacher_path"])]
    if not given and chain.teacher and chain.teacher.manifest and graph.home.local:
        candidates.append(graph.home.local / chain.teacher.uri / chain.teacher.manifest["model"])
    for path in candidates:
        if path.exists() and path_sha256(path) == wanted:
            return path
    raise LineageError(
        f"The teacher must be the recorded one, with SHA-256 {wanted[:16]}…; it is not at "
        f"{' nor at '.join(map(str, candidates))}. Name it with --teacher."
    )


def _check_data(data: configuration.DataConfig, wanted: str) -> None:
    from learn2compress.data.sources.formats import data_digest

    if data.path != "digits" and not Path(data.path).exists() and not any(sign in data.path for sign in "*?["):
        raise LineageError(f"The data must be the recorded ones; {data.path} is not there. Name them with --data.")
    digest = data_digest(data)
    if digest != wanted:
        raise LineageError(
            f"The data must be the recorded ones, with digest {wanted[:16]}…; those at {data.path} have "
            f"{digest[:16]}…. Name the right ones with --data."
        )


def _trace_same(replayed: Graph, chain: Chain) -> LineageReport:
    """Traces the file of the replay that has the same output and path as the recorded one."""
    key, _, path = chain.output.partition("/")
    for entry in reversed(replayed.index.entries()):
        if entry.node == chain.steps[0].node and not entry.cached:
            for file in replayed.index.files_of(entry.id):
                if (file.output, file.path) == (key, path):
                    return lineage_of_digest(replayed, file.sha256, path, file.bytes, max_chains=1)
    raise LineageError(f"The replay must have made {chain.output} by {chain.steps[0].node}; it has not.")


def _differs(graph: Graph, entry: Entry | None, replayed: Graph, other: Entry | None) -> bool:
    """Tells whether two executions wrote different bytes, apart from times in JSON files."""
    if entry is None or other is None:
        return True
    outputs = {output.name: output for output in replayed.statement(other).outputs}
    for output in graph.statement(entry).outputs:
        again = outputs.get(output.name)
        if again is None or set(output.files) != set(again.files):
            return True
        for path, file in output.files.items():
            if file.sha256 != again.files[path].sha256 and (
                not path.endswith(".json")
                or _timeless(graph, entry, output, path) != _timeless(replayed, other, again, path)
            ):
                return True
    return False


def _timeless(graph: Graph, entry: Entry, output: Output, path: str) -> Any:
    document, _ = graph.evidence(entry, output, path)
    return _without_times(document)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        # The digests of JSON files in a manifest depend on the times in these files.
        about = {"sha256", "bytes"} if str(value.get("path", "")).endswith(".json") else set()
        return {key: _without_times(one) for key, one in value.items() if key not in _TIMES | about}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


def _file_sha256(graph: Graph, chain: Chain) -> str:
    key, _, path = chain.output.partition("/")
    entry = graph.index.entry_at(chain.made_by)
    if entry is None:
        raise LineageError(f"the records must hold {chain.made_by}; they do not. Copy the run anew, with all of it.")
    output = next(one for one in graph.statement(entry).outputs if one.name == key)
    return output.files[path].sha256


def _compare_figures(chain: Chain, again: Chain, tolerance: float) -> Iterator[ReplayedFigure]:
    name = (chain.model or {}).get("name", chain.output)
    recorded, now = (one.measurements[0].figures if one.measurements else {} for one in (chain, again))
    for split, figures in recorded.get("figures", {}).items():
        other = now.get("figures", {}).get(split, {})
        for key in _FIGURES:
            if figures.get(key) is not None:
                yield _figure(name, f"{split} {key}", figures[key], other.get(key), tolerance)
    if "bytes" in recorded:
        yield _figure(name, "bytes", recorded["bytes"], now.get("bytes"), tolerance * recorded["bytes"])


def _figure(model: str, name: str, recorded: float, now: float | None, tolerance: float) -> ReplayedFigure:
    within = now is not None and abs(now - recorded) <= tolerance
    return ReplayedFigure(model=model, figure=name, recorded=recorded, replayed=now, within=within)
