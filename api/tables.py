# SPDX-License-Identifier: Apache-2.0
"""Tables of models, and of choices, that print well in a terminal and in a notebook."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from learn2compress.api.options import is_command_line, name_of
from learn2compress.schemas.units import format_bytes, format_count

if TYPE_CHECKING:
    import pandas

    from learn2compress.schemas.reports import Candidate

_NUMBERS = ("size", "MACs", "accuracy", "validation", "latency")


@dataclass(frozen=True)
class Model:
    """A measured .tflite file.

    Attributes:
        name: Name of the file without its ending, such as `small-int8`.
        path: Path of the file.
        bytes: Size of the file.
        accuracy: Top-1 accuracy on the test split, a fraction in [0, 1]; None if it could not be measured.
        accuracy_interval: 95 % confidence interval of the accuracy.
        validation_accuracy: Top-1 accuracy on the validation split, which decides the choice; None if there is none.
        macs: Multiply-accumulates of one image; None if unknown.
        latency_ms: Latency of one image on the machine that measured it; None if it was not measured.
        verdict: Status in the choice, such as `chosen` or `over limit`; empty if there was no choice.
        reason: Reason for the verdict, or for a failure.
        candidate: All figures, as in report.json.
    """

    name: str
    path: Path
    bytes: int
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None
    validation_accuracy: float | None
    macs: int | None
    latency_ms: float | None
    verdict: str
    reason: str
    candidate: "Candidate"

    def __repr__(self) -> str:
        accuracy = "no accuracy" if self.accuracy is None else f"{self.accuracy:.1%}"
        return f"<Model {self.name}: {format_bytes(self.bytes)}, {accuracy}, {self.path}>"


def model_of(candidate: "Candidate", path: Path, verdict: str = "", reason: str = "") -> Model:
    """Convert the figures of a file to a row of a table."""
    test, validation = candidate.figures.get("test"), candidate.figures.get("validation")
    return Model(
        name=candidate.name,
        path=path,
        bytes=candidate.bytes,
        accuracy=test.top1 if test else None,
        accuracy_interval=(test.top1_interval.low, test.top1_interval.high) if test else None,
        validation_accuracy=validation.top1 if validation else None,
        macs=candidate.macs,
        latency_ms=candidate.latency[0].p50_ms if candidate.latency else None,
        verdict=verdict,
        reason=reason or candidate.failed or "",
        candidate=candidate,
    )


class ModelTable(Sequence[Model]):
    """Models in rows: indexed by number or by name, printed as a table."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = tuple(models)

    @overload
    def __getitem__(self, key: int | str) -> Model: ...

    @overload
    def __getitem__(self, key: slice) -> "ModelTable": ...

    def __getitem__(self, key: int | str | slice) -> "Model | ModelTable":
        """Return a model by its position or name, or several by a slice.

        Raises:
            KeyError: No model has the name.
            IndexError: The position is too large.
        """
        if isinstance(key, slice):
            return ModelTable(self._models[key])
        if isinstance(key, int):
            return self._models[key]
        found = next((model for model in self._models if model.name == key), None)
        if found is None:
            raise KeyError(f"{key!r}; the models are {', '.join(model.name for model in self._models)}")
        return found

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Convert the table to a dictionary for each model, with plain values."""
        return [
            {
                "model": model.name,
                "bytes": model.bytes,
                "macs": model.macs,
                "accuracy": model.accuracy,
                "accuracy_low": model.accuracy_interval[0] if model.accuracy_interval else None,
                "accuracy_high": model.accuracy_interval[1] if model.accuracy_interval else None,
                "validation_accuracy": model.validation_accuracy,
                "latency_ms": model.latency_ms,
                "verdict": model.verdict,
                "reason": model.reason,
                "path": str(model.path),
            }
            for model in self._models
        ]

    def to_pandas(self) -> "pandas.DataFrame":
        """Convert the table to a pandas DataFrame with the model's name as index.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        return pandas.DataFrame(self.to_dicts()).set_index("model")

    def _rows(self) -> list[dict[str, str]]:
        rows = []
        for model in self._models:
            accuracy = "–"
            if model.accuracy is not None and model.accuracy_interval is not None:
                low, high = model.accuracy_interval
                accuracy = f"{model.accuracy:.1%} ±{(high - low) / 2:.1%}"
            row = {
                "model": model.name,
                "size": format_bytes(model.bytes),
                "MACs": "–" if model.macs is None else format_count(model.macs),
                "accuracy": accuracy,
                "latency": _duration(model.latency_ms),
            }
            rows.append({**row, "verdict": model.verdict} if any(one.verdict for one in self._models) else row)
        return rows

    def __repr__(self) -> str:
        return _plain(self._rows()) or "no models"

    def _repr_html_(self) -> str:
        return _html(self._rows()) or "<p>no models</p>"


@dataclass(frozen=True)
class Alternative:
    """Limits, and the model that would be chosen under them.

    Attributes:
        limits: Arguments of `pick`, such as `{"max_size": "60KB"}`.
        model: The model, with the reason for its choice.
        is_chosen: Whether it is the model that is chosen at present.
    """

    limits: dict[str, str]
    model: Model
    is_chosen: bool

    @property
    def options(self) -> str:
        """The limits as they are typed: in Python or, for the command line, as options."""
        if is_command_line():
            return " ".join(f"{name_of(name)} {value}" for name, value in self.limits.items())
        return ", ".join(f'{name}="{value}"' for name, value in self.limits.items())


class AlternativeTable(Sequence[Alternative]):
    """What would be chosen under other limits: a row for each limit at which the choice changes, printed as a table."""

    def __init__(self, alternatives: Sequence[Alternative]) -> None:
        self._alternatives = tuple(alternatives)

    @overload
    def __getitem__(self, key: int) -> Alternative: ...

    @overload
    def __getitem__(self, key: slice) -> "AlternativeTable": ...

    def __getitem__(self, key: int | slice) -> "Alternative | AlternativeTable":
        """Return a row by its position, or several by a slice.

        Raises:
            IndexError: The position is too large.
        """
        if isinstance(key, slice):
            return AlternativeTable(self._alternatives[key])
        return self._alternatives[key]

    def __len__(self) -> int:
        return len(self._alternatives)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Convert the table to a dictionary for each row, with plain values."""
        return [
            {
                "limits": dict(row.limits),
                "model": row.model.name,
                "bytes": row.model.bytes,
                "macs": row.model.macs,
                "validation_accuracy": row.model.validation_accuracy,
                "latency_ms": row.model.latency_ms,
                "is_chosen": row.is_chosen,
                "reason": row.model.reason,
            }
            for row in self._alternatives
        ]

    def _rows(self) -> list[dict[str, str]]:
        return [
            {
                "": "*" if row.is_chosen else "",
                "limits": row.options,
                "model": row.model.name,
                "size": format_bytes(row.model.bytes),
                "validation": "–" if row.model.validation_accuracy is None else f"{row.model.validation_accuracy:.1%}",
                "latency": _duration(row.model.latency_ms),
            }
            for row in self._alternatives
        ]

    def __repr__(self) -> str:
        return _plain(self._rows()) or "no choices"

    def _repr_html_(self) -> str:
        return _html(self._rows()) or "<p>no choices</p>"


def _plain(rows: list[dict[str, str]]) -> str:
    if not rows:
        return ""
    columns = list(rows[0])
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}
    lines = [dict(zip(columns, columns, strict=True)), *rows]
    return "\n".join("  ".join(_padded(line[one], one, widths[one]) for one in columns).rstrip() for line in lines)


def _html(rows: list[dict[str, str]]) -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in rows[0])
    body = "".join("<tr>" + "".join(map(_cell, row, row.values())) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "–"
    return f"{milliseconds:.3g} ms" if milliseconds >= 0.1 else f"{milliseconds * 1000:.3g} µs"


def _padded(text: str, column: str, width: int) -> str:
    return text.rjust(width) if column in _NUMBERS else text.ljust(width)


def _cell(column: str, text: str) -> str:
    style = ' style="text-align: right"' if column in _NUMBERS else ""
    return f"<td{style}>{escape(text)}</td>"
