# SPDX-License-Identifier: Apache-2.0
"""Compares the histories of two models: steps, parameters, code, packages, data, and figures.

Steps are matched by the name of their node. A step that both models share (the same record) is not compared.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from learn2compress.schemas.config.reading.former_names import use_current_parameters
from learn2compress.schemas.lineage import Chain, Difference, DiffReport, LineageReport, Step, status_of

_NOT_FIGURES = {"name", "student", "variant", "file", "sha256", "layers", "calibration", "rescue"}
_DETAILS = {"confusion", "per_class", "flips"}


def diff_of(a: LineageReport, b: LineageReport) -> DiffReport:
    """Compare the latest executions that made each of two files."""
    differences: list[Difference] = []
    if a.chains and b.chains:
        differences = [*_steps(a.chains[0], b.chains[0]), *_figures(a.chains[0], b.chains[0])]
    problems = list(dict.fromkeys([*a.problems, *b.problems]))
    unknown = "unknown" in (a.status, b.status)
    return DiffReport(
        status="unknown" if unknown else status_of(problems),
        location=a.location if a.location == b.location else f"{a.location}, {b.location}",
        a=a.file,
        b=b.file,
        sha256_a=a.sha256,
        sha256_b=b.sha256,
        same_bytes=a.sha256 == b.sha256,
        differences=differences,
        problems=problems,
    )


def environment_differences(node: str, a: Step, b: Step) -> Iterator[Difference]:
    """Yield the differences in code, packages and platform between two steps."""
    yield from _mapping(node, "code", a.code, b.code)
    yield from _mapping(node, "package", a.packages, b.packages)
    if a.platform != b.platform:
        yield Difference(node=node, what="platform", name="platform", a=a.platform, b=b.platform)


def _steps(a: Chain, b: Chain) -> Iterator[Difference]:
    steps_a = {step.node: step for step in a.steps}
    steps_b = {step.node: step for step in b.steps}
    for node in dict.fromkeys([*(step.node for step in reversed(a.steps)), *(step.node for step in reversed(b.steps))]):
        one, other = steps_a.get(node), steps_b.get(node)
        if one is None or other is None:
            yield Difference(node=node, what="step", name=node, a=one and one.record, b=other and other.record)
        elif one.record != other.record or a.made_by != b.made_by:
            yield from _step(node, one, other)


def _step(node: str, a: Step, b: Step) -> Iterator[Difference]:
    yield from _mapping(node, "parameter", use_current_parameters(a.parameters), use_current_parameters(b.parameters))
    if a.seed != b.seed:
        yield Difference(node=node, what="seed", name="seed", a=a.seed, b=b.seed)
    yield from environment_differences(node, a, b)
    inputs_a, inputs_b = ({one.key: one.digest for one in step.inputs} for step in (a, b))
    yield from _mapping(node, "input", inputs_a, inputs_b)
    outputs_a, outputs_b = ({one.key: one.digest for one in step.outputs} for step in (a, b))
    yield from _mapping(node, "output", outputs_a, outputs_b)
    for key, one in {output.key: output for output in a.outputs}.items():
        other = next((output for output in b.outputs if output.key == key), None)
        if other is not None and one.digest != other.digest:
            yield from _mapping(node, "property", _own(one.properties), _own(other.properties), prefix=f"{key}.")


def _figures(a: Chain, b: Chain) -> Iterator[Difference]:
    one, other = (dict(_numbers(chain.measurements[0].figures)) if chain.measurements else {} for chain in (a, b))
    yield from _mapping("", "figure", one, other)


def _numbers(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in figures.items():
        if key in _NOT_FIGURES | _DETAILS:
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            entries = {str(i): one for i, one in enumerate(value) if isinstance(one, Mapping)}
            yield from _numbers(entries, f"{prefix}{key}.")
        elif isinstance(value, int | float | bool) or value is None:
            yield f"{prefix}{key}", value


def _own(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the properties that name the record and its digests, which differ whenever anything else does."""
    return {
        key: value
        for key, value in properties.items()
        if key != "provenance" and "sha256" not in key and not key.endswith("digest")
    }


def _mapping(
    node: str, what: str, a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = ""
) -> Iterator[Difference]:
    for key in sorted(set(a) | set(b)):
        if a.get(key) != b.get(key):
            yield Difference(node=node, what=what, name=f"{prefix}{key}", a=a.get(key), b=b.get(key))
