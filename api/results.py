# SPDX-License-Identifier: Apache-2.0
"""The result of a run: its models, the chosen one, the report, and what can be done with them without training."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learn2compress.api.auditing import trace
from learn2compress.api.measuring import Files, Measurements, evaluate
from learn2compress.api.tables import Alternative, AlternativeTable, Model, ModelTable, model_of
from learn2compress.schemas.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from learn2compress.report.comparison import Run
    from learn2compress.schemas.config import SelectConfig
    from learn2compress.schemas.lineage import LineageReport
    from learn2compress.schemas.reports import Choice, Report

__all__ = [
    "Alternative", "AlternativeTable", "Model", "ModelTable", "ReportPage", "Result", "compare", "open_result", "pick",
    "what_if",
]  # fmt: skip


@dataclass(frozen=True)
class ReportPage:
    """A report in HTML, which a notebook shows inline.

    Attributes:
        path: Path of the page, which needs no network.
    """

    path: Path

    @property
    def html(self) -> str:
        """Text of the page."""
        return self.path.read_text(encoding="utf-8")

    def open(self) -> None:
        """Open the page in the web browser."""
        import webbrowser

        webbrowser.open(self.path.resolve().as_uri())

    def __repr__(self) -> str:
        return f"<ReportPage {self.path}>"

    def _repr_html_(self) -> str:
        frame = 'width="100%" height="720" style="border: 0" sandbox="allow-scripts allow-popups"'
        return f'<iframe title="Report of Learn2Compress" {frame} srcdoc="{escape(self.html)}"></iframe>'


class Result:
    """The outcome of a run, read from its output folder.

    Args:
        output: Output folder of a finished run.

    Raises:
        OutputError: The folder holds no finished run.
    """

    def __init__(self, output: str | Path) -> None:
        self.output = Path(output)
        from learn2compress.report.assembly import REPORT

        if not (self.output / REPORT).is_file():
            raise OutputError(
                f"{output} must hold a finished run; there is no {REPORT}. Run `learn2compress run` first."
            )

    @cached_property
    def data(self) -> "Report":
        """All figures, as in report.json."""
        from learn2compress.report.assembly import REPORT
        from learn2compress.schemas.manifests import read_manifest
        from learn2compress.schemas.reports import Report

        return read_manifest(self.output, Report, REPORT)

    @cached_property
    def models(self) -> ModelTable:
        """Every candidate with its figures and the verdict on it."""
        verdicts = {verdict.candidate: verdict for verdict in self.data.choice.verdicts}
        return ModelTable(
            [
                model_of(
                    candidate,
                    self.output / "models" / Path(candidate.file).name,
                    verdicts[candidate.name].status,
                    verdicts[candidate.name].reason,
                )
                for candidate in self.data.evaluation.candidates
            ]
        )

    @property
    def best(self) -> Model:
        """The chosen model.

        Raises:
            OutputError: No candidate satisfied the limits.
        """
        chosen = self.data.choice.chosen
        if chosen is None:
            raise OutputError(f"{self.output} must have a chosen model; no candidate satisfied the limits. Use pick.")
        return self.models[chosen]

    @property
    def shortfall(self) -> str:
        """What limits the chosen model, and which settings to try, in sentences; empty if it is near its teacher."""
        from learn2compress.report.shortfall import find_shortfall

        found = find_shortfall(self.data)
        return found.describe() if found else ""

    @property
    def is_near_chance(self) -> bool:
        """Whether the accuracy of the chosen model is no more than guessing explains."""
        from learn2compress.report.shortfall import is_near_chance

        return is_near_chance(self.data)

    @property
    def selected(self) -> Path:
        """Path of the copy of the chosen model, OUT/selected.tflite."""
        return self.output / "selected.tflite"

    @property
    def bundle(self) -> Path | None:
        """Path of the bundle for an app, OUT/bundle.zip; None if there is none."""
        path = self.output / "bundle.zip"
        return path if path.is_file() else None

    @property
    def report(self) -> ReportPage:
        """The report, which a notebook shows inline."""
        from learn2compress.report.assembly import PAGE

        return ReportPage(self.output / PAGE)

    def pick(
        self,
        *,
        max_size: int | str | None = None,
        max_latency_ms: float | str | None = None,
        max_macs: int | str | None = None,
        min_accuracy: float | str | None = None,
        max_accuracy_drop: float | str | None = None,
        objective: str | None = None,
        metadata: str | None = None,
    ) -> "Result":
        """Choose another of the measured files under other limits, without training; see `learn2compress.pick`."""
        return pick(
            self.output,
            max_size=max_size,
            max_latency_ms=max_latency_ms,
            max_macs=max_macs,
            min_accuracy=min_accuracy,
            max_accuracy_drop=max_accuracy_drop,
            objective=objective,
            metadata=metadata,
        )

    def what_if(self) -> AlternativeTable:
        """List which model would be chosen under other limits; see `learn2compress.what_if`."""
        return what_if(self.output)

    def would_pick(
        self,
        *,
        max_size: int | str | None = None,
        max_latency_ms: float | str | None = None,
        max_macs: int | str | None = None,
        min_accuracy: float | str | None = None,
        max_accuracy_drop: float | str | None = None,
        objective: str | None = None,
    ) -> Model:
        """Return the model that `pick` would choose, with the reason, without changing anything.

        Raises:
            ConfigError: A limit is invalid.
            SelectionError: No candidate satisfies the limits.
        """
        from learn2compress.pipeline.picking import open_choices

        select = _select(max_size, max_latency_ms, max_macs, min_accuracy, max_accuracy_drop, objective)
        return self._chosen_by(open_choices(self.output).choose(select))

    def _chosen_by(self, choice: "Choice") -> Model:
        """Return the model of a choice, with the reason for it."""
        verdict = next(verdict for verdict in choice.verdicts if verdict.candidate == choice.chosen)
        model = self.models[verdict.candidate]
        return model_of(model.candidate, model.path, verdict.status, verdict.reason)

    def evaluate(self, data: str | Path, files: Files | None = None, **options: Any) -> Measurements:
        """Measure the models on other images.

        Args:
            data: Image folder, .npz, .csv or TFRecord files, or the word digits.
            files: Files to measure; by default the chosen one.
            options: Further arguments of `learn2compress.evaluate`.

        Returns:
            The figures.

        Raises:
            ConfigError: An argument is invalid.
            DataError: The data cannot be read.
        """
        return evaluate(self.best.path if files is None else files, data, **options)

    def lineage(self, model: str | None = None) -> "LineageReport":
        """Trace a model to its teacher, data and steps.

        Args:
            model: Name of the model; by default the chosen one.

        Returns:
            The lineage.

        Raises:
            LineageError: The records cannot be read.
            KeyError: No model has the name.
        """
        return trace(self.best.path if model is None else self.models[model].path, at=self.output)

    def __repr__(self) -> str:
        chosen = self.data.choice.chosen
        reason = f"Chosen: {chosen} – {self.best.reason}" if chosen else "Chosen: none"
        return f"{self.models!r}\n{reason}\n{self.output}"

    def _repr_html_(self) -> str:
        chosen = self.data.choice.chosen
        reason = escape(f"{chosen} – {self.best.reason}") if chosen else "none"
        return f"{self.models._repr_html_()}<p>Chosen: {reason}</p>"


def open_result(output: str | Path) -> Result:
    """Open the output folder of a finished run.

    Args:
        output: Output folder.

    Returns:
        The result.

    Raises:
        OutputError: The folder holds no finished run.
    """
    return Result(output)


def pick(
    output: str | Path,
    *,
    max_size: int | str | None = None,
    max_latency_ms: float | str | None = None,
    max_macs: int | str | None = None,
    min_accuracy: float | str | None = None,
    max_accuracy_drop: float | str | None = None,
    objective: str | None = None,
    metadata: str | None = None,
) -> Result:
    """Choose another of the measured files of a run under other limits, without training.

    Replaces OUT/selected.tflite, the report and OUT/bundle.zip, and records the choice. Limits that are not given are
    not applied, even if the configuration of the run has them. Accuracies are those of the validation split.

    Args:
        output: Output folder of a finished run.
        max_size: Largest file size in bytes, or such as 60KB, 1.5MB or 64KiB.
        max_latency_ms: Largest latency in milliseconds.
        max_macs: Largest number of multiply-accumulates, such as 2M.
        min_accuracy: Lowest accuracy, such as 0.9.
        max_accuracy_drop: Largest drop from the teacher's accuracy, such as 0.02.
        objective: Criterion within the limits; see `select.objective`.
        metadata: Address of the metadata store, if it is not OUT/metadata.db.

    Returns:
        The result with the new choice.

    Raises:
        ConfigError: A limit is invalid.
        SelectionError: No candidate satisfies the limits; all files stay unchanged.
        OutputError: The folder holds no finished run, another command works in it, or it cannot be written.
        LineageError: The metadata store does not contain the evaluation.
    """
    from learn2compress.api.terminal import quiet_output
    from learn2compress.pipeline.picking import pick as pick_again

    select = _select(max_size, max_latency_ms, max_macs, min_accuracy, max_accuracy_drop, objective)
    # The runtime, which computes the golden vectors, prints a banner on standard error.
    with quiet_output(Path(os.devnull)):
        pick_again(output, select, metadata)
    return Result(output)


def what_if(output: str | Path) -> AlternativeTable:
    """List which of the measured files of a run would be chosen under other limits; nothing is changed.

    There is a row for each size and each latency from which on another file is chosen, and for each file the highest
    accuracy at which it is the smallest one that reaches it. `pick(output, **row.limits)` chooses the file of a row.

    Args:
        output: Output folder of a finished run.

    Returns:
        The limits and what they choose.

    Raises:
        OutputError: The folder holds no finished run.
    """
    from learn2compress.pipeline.picking import open_choices

    result = Result(output)
    choices = open_choices(output)
    rows = choices.what_ifs()
    chosen = choices.report.choice.chosen
    return AlternativeTable(
        [Alternative(row.options, result._chosen_by(row.choice), row.choice.chosen == chosen) for row in rows]
    )


def _select(
    max_size: int | str | None,
    max_latency_ms: float | str | None,
    max_macs: int | str | None,
    min_accuracy: float | str | None,
    max_accuracy_drop: float | str | None,
    objective: str | None,
) -> "SelectConfig":
    """Check limits and the objective.

    Raises:
        ConfigError: One of them is invalid.
    """
    from learn2compress.api.options import checked
    from learn2compress.schemas.config import SelectConfig

    limits = {
        "max_size": max_size, "max_latency_ms": max_latency_ms, "max_macs": max_macs, "min_accuracy": min_accuracy,
        "max_accuracy_drop": max_accuracy_drop, "objective": objective,
    }  # fmt: skip
    return checked(SelectConfig, limits)


def compare(outputs: Sequence[str | Path], page: str | Path = "comparison.html") -> ReportPage:
    """Write a page that compares finished runs: chosen files, all files, and the settings that differ.

    The chosen files are compared with that of the first run, image by image where the test images are the same.

    Args:
        outputs: Output folders of at least two runs.
        page: The HTML file to write; an existing one is replaced.

    Returns:
        The page.

    Raises:
        ConfigError: There are fewer than two runs.
        OutputError: A folder holds no finished run, or the page cannot be written.
    """
    from learn2compress.report.comparison import render_comparison

    if len(outputs) < 2:
        raise ConfigError(f"a comparison must have at least two output folders; got {len(outputs)}. Name another.")
    paths = [Path(output) for output in outputs]
    alike = len({path.resolve().name for path in paths}) < len(paths)
    runs = [_compared(path, str(path) if alike else path.resolve().name) for path in paths]
    target = Path(page)
    try:
        target.write_text(render_comparison(runs), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{page} must be writable; {error.strerror}. Choose another place.") from error
    return ReportPage(target)


def _compared(output: Path, name: str) -> "Run":
    """Read a run to compare; without its predictions, figures are compared but not images."""
    from learn2compress.pipeline.picking import find_evaluation
    from learn2compress.report.comparison import Run, read_correct

    report = Result(output).data
    try:
        folder = find_evaluation(output, report.evaluation)
    except OutputError:
        return Run(name, report)
    return Run(name, report, read_correct(folder, report.choice.chosen))
