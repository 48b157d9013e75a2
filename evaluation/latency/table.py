# SPDX-License-Identifier: Apache-2.0
"""Reads and writes latency tables: the measured operations of a device, or the model that was fitted to them.

`learn2compress bench --operations` writes measured operations, and so can any other tool (`processor`, `cores`,
`kernel`, `stride` and `times` may be left out; docs/how-to/latency.md):

    {"device": "Pixel 8", "processor": "Tensor G3", "cores": 9, "runtime": "benchmark_model",
     "operations": [{"kind": "conv", "height": 16, "width": 16, "inputs": 3, "outputs": 16, "kernel": 3, "stride": 2,
                     "ms": 0.0101, "times": 1}]}

A fitted model is what a node's parameter and the lineage hold, so that a replay chooses the same family on any machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from learn2compress.evaluation.latency.model import LatencyModel, Measured, Terms, coefficients_of, fit
from learn2compress.evaluation.latency.operations import Kind, Operation
from learn2compress.schemas.errors import ConfigError, first_fault
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.reports import Host

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Row(_Strict):
    kind: Kind
    height: _Count
    width: _Count
    inputs: _Count
    outputs: _Count
    kernel: _Count = 1
    stride: _Count = 1
    ms: _Positive
    times: _Count = 1


class _Table(_Strict):
    device: str
    operations: Annotated[list[_Row], Field(min_length=1)]
    processor: str = "not stated"
    cores: _Count | None = None
    runtime: str = "not stated"


class _Terms(_Strict):
    tiles: tuple[_Count, _Count, _Count]
    microseconds: tuple[_NonNegative, ...]


class _Model(_Strict):
    device: str
    runtime: str
    invocation: _NonNegative
    terms: dict[Kind, _Terms]

    @model_validator(mode="after")
    def _number_of_terms(self) -> Self:
        for kind, one in self.terms.items():
            if len(one.microseconds) != coefficients_of(kind):
                raise ValueError(
                    f"terms.{kind} must have {coefficients_of(kind)} coefficients; got {len(one.microseconds)}"
                )
        return self


def read_table(path: str | Path) -> LatencyModel:
    """Read a latency table, and fit a model unless the file holds one.

    Args:
        path: The file.

    Raises:
        ConfigError: The file is missing, has another format, or holds too few operations.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(
            f"students.latency_table must be a readable file; got {path}: {error.strerror}. Write one: learn2compress "
            "bench --operations --output FILE."
        ) from error
    return parse_table(text, f"latency table {path}")


def parse_table(text: str, name: str = "the recorded latency model") -> LatencyModel:
    """Read the text of a latency table or of a fitted model.

    Args:
        text: JSON.
        name: What the text is, for error messages.

    Raises:
        ConfigError: The text has another format, or holds too few operations.
    """
    try:
        tree = json.loads(text)
        if isinstance(tree, dict) and "terms" in tree:
            return _to_model(_Model.model_validate(tree))
        table = _Table.model_validate(tree)
    except ValueError as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
        raise ConfigError(
            f"{name} must be JSON with a device and its operations; got {fault}. Write it with learn2compress bench "
            "--operations."
        ) from error
    measured = [
        Measured(Operation(**row.model_dump(exclude={"ms", "times"})), row.ms, row.times) for row in table.operations
    ]
    return fit(table.device, table.runtime, measured)


def model_text(model: LatencyModel) -> str:
    """Write a fitted model as JSON in one line, which `parse_table` reads."""
    terms = {
        kind: {"tiles": list(one.tiles), "microseconds": list(one.microseconds)} for kind, one in model.terms.items()
    }
    tree = {"device": model.device, "runtime": model.runtime, "invocation": model.invocation, "terms": terms}
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=4)
def recorded_model(text: str) -> LatencyModel:
    """Read the text of a fitted model, which a node's parameter holds; equal texts give the same object."""
    return parse_table(text)


def write_table(path: Path, host: Host, measured: Sequence[Measured]) -> None:
    """Write measured operations in one step.

    Args:
        path: File to write; its folder is there.
        host: The device.
        measured: Its operations.

    Raises:
        OSError: It cannot be written.
    """
    rows = []
    for one in measured:
        fields = {
            name: value for name, value in vars(one.operation).items() if name not in ("kernel", "stride") or value > 1
        }
        rows.append({**fields, "ms": float(f"{one.ms:.4g}"), **({"times": one.times} if one.times > 1 else {})})
    head = {
        "device": host.name,
        "processor": host.processor,
        **({"cores": host.cores} if host.cores else {}),
        "runtime": host.runtime,
    }
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    text = json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}")
    write_whole(path, f'{text},\n "operations": [\n  {lines}]}}\n')


def _to_model(model: _Model) -> LatencyModel:
    terms = {kind: Terms(one.tiles, one.microseconds) for kind, one in model.terms.items()}
    return LatencyModel(model.device, model.runtime, model.invocation, terms)
