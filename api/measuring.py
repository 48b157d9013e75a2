# SPDX-License-Identifier: Apache-2.0
"""Measures and describes any .tflite files, without a pipeline."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learn2compress.api.tables import ModelTable, model_of

if TYPE_CHECKING:
    from learn2compress.schemas.manifests import BadFile
    from learn2compress.schemas.reports import Candidate, Host, Latency
    from learn2compress.tflite.inspection import Inspection

Files = str | Path | Sequence[str | Path]


@dataclass(frozen=True, repr=False)
class Measurements:
    """The figures of some files on the same images.

    Attributes:
        candidates: All figures in the order of the files; those on the images under `test`.
        classes: Names of the classes of the data.
        part: Images that were used: `test`, or `all` if the data has no splits.
        host: The machine on which the latency was measured.
        skipped: Images that could not be read.
        warnings: Reasons to doubt the figures, in sentences.
        modality: Kind of the examples.
    """

    candidates: "list[Candidate]"
    classes: tuple[str, ...]
    part: str
    host: "Host"
    skipped: "list[BadFile]"
    warnings: list[str]
    modality: str = "image"

    @property
    def models(self) -> ModelTable:
        """The files as a table."""
        return ModelTable([model_of(candidate, Path(candidate.file)) for candidate in self.candidates])

    @property
    def failed(self) -> list[str]:
        """Reasons of the files that could not be measured, in sentences."""
        return [candidate.failed for candidate in self.candidates if candidate.failed]

    def __repr__(self) -> str:
        notes = [f"warning: {warning}" for warning in self.warnings] + self.failed
        title = f"{self.part} {self.modality}s; latency on {self.host.name}, {self.host.runtime}"
        return "\n".join([title, repr(self.models), *notes])

    def _repr_html_(self) -> str:
        return self.models._repr_html_()


def evaluate(
    files: Files,
    data: str | Path,
    *,
    format: str = "auto",
    classes: Sequence[str] | None = None,
    label_offset: int | None = None,
    image_feature: str | None = None,
    label_feature: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    limit: int | None = None,
    scaling: str | None = None,
    signature: str | None = None,
    output: str | None = None,
    skip_class: Sequence[str] = (),
    allow_near_chance: bool = False,
    top_k: int = 5,
    threads: Sequence[int] = (1,),
    runs: int = 50,
    quiet: bool = False,
) -> Measurements:
    """Measure accuracy, size and latency of .tflite classifiers on labelled images.

    The images are those of the data's test split, or all images if the data has no splits.

    Args:
        files: A TensorFlow Lite file or several, from this or any other tool.
        data: Image folder, .npz, .csv or TFRecord files, or the word digits.
        format: `folder`, `npz`, `tfrecord`, `csv` or `digits`; `auto` detects it.
        classes: Class names in the order of the outputs.
        label_offset: Taken off whole-number labels: 1 where they begin at 1.
        image_feature: Name of the image feature of TFRecords; by default a usual one.
        label_feature: Name of the label feature of TFRecords; by default a usual one.
        text_column: Name of the column of texts; by default a usual one.
        label_column: Name of the column of the labels of texts; by default a usual one.
        limit: Use at most this many images, evenly spaced.
        scaling: What the files expect of pixels 0..255: none, unit, symmetric, imagenet or caffe; by default what each
            file's metadata or its input's range says.
        signature: Signature to run; by default serving_default, or the only one.
        output: Name or index of the output with the scores, of several.
        skip_class: Outputs that the data has no class for, such as a background class.
        allow_near_chance: Return figures that may be meaningless, with a warning, instead of refusing the file.
        top_k: Also compute how often the true class is among the k highest scores.
        threads: Thread counts for the latency measurement.
        runs: Number of timed inferences.
        quiet: Show no progress.

    Returns:
        The figures. A file that could not be measured is listed with its reason, and the others are measured.

    Raises:
        ConfigError: An argument is invalid.
        DataError: The data cannot be read.
    """
    from learn2compress.api.options import checked
    from learn2compress.data.sources.formats import open_source
    from learn2compress.evaluation.examination.tflite_file import Choices
    from learn2compress.evaluation.files import evaluate_files
    from learn2compress.evaluation.measure import this_host
    from learn2compress.schemas.config import DataConfig, EvaluateConfig, TeacherConfig

    names = list(classes) if classes else None
    options = {"path": str(data), "format": format, "classes": names, "label_offset": label_offset}
    features = {
        **{"image_feature": image_feature, "label_feature": label_feature},
        **{"text_column": text_column, "label_column": label_column},
    }
    config = checked(DataConfig, options | {name: value for name, value in features.items() if value})
    expected = checked(TeacherConfig, {"path": "", "scaling": scaling}).scaling if scaling else None
    source = open_source(config, limit)
    paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
    settings = checked(EvaluateConfig, {"top_k": top_k, "threads": list(threads), "latency_runs": runs})
    choices = Choices(expected, signature, output, tuple(skip_class), names is not None, allow_near_chance)
    found = _with_bar(lambda told: evaluate_files(paths, source, settings, choices, told), f"{source.modality}s", quiet)
    warnings = [f"{candidate.name}: {text}" for candidate in found.candidates for text in candidate.warnings]
    return Measurements(
        found.candidates,
        source.classes,
        found.part,
        this_host(),
        found.skipped,
        [*found.notes, *warnings],
        source.modality,
    )


def inspect(file: str | Path) -> "Inspection":
    """Describe the contents of a .tflite file: inputs, outputs, labels, operators, and size by layer.

    Args:
        file: A TensorFlow Lite file, from this or any other tool.

    Returns:
        The description.

    Raises:
        ModelFileError: The file is unreadable, truncated, or not a .tflite file.
    """
    from learn2compress.tflite.inspection import inspect_file

    return inspect_file(Path(file))


@dataclass(frozen=True)
class Benchmark:
    """The latencies of files on one device.

    Attributes:
        device: Name of the phone, or of this machine.
        latencies: File and latency, in the order in which they were measured.
        path: File with the results for `evaluate.device_results`; None on this machine.
    """

    device: str
    latencies: "list[tuple[Path, Latency]]"
    path: Path | None


def bench(
    files: Files = (),
    *,
    operations: bool = False,
    adb: bool = False,
    threads: Sequence[int] = (1,),
    runs: int = 50,
    serial: str | None = None,
    benchmark_model: str | Path | None = None,
    output: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> Benchmark:
    """Measure the latency of .tflite files: on this machine, or on a phone with TensorFlow's benchmark_model.

    Args:
        files: A TensorFlow Lite file or several; none with `operations`.
        operations: Measure single operations of networks instead, by one thread, and write a latency table for
            `students.latency_table`.
        adb: Measure on a phone that adb reaches, and write the results for `evaluate.device_results`.
        threads: Thread counts.
        runs: Number of timed inferences; on a phone at least so many.
        serial: Serial number of the phone, if there are several.
        benchmark_model: A benchmark_model for the phone; by default the phone has one in /data/local/tmp.
        output: File for the results of the phone, or for the latency table; by default the device's name, with .json or
            -operations.json.
        say: Receives a sentence about each measurement.

    Returns:
        The latencies.

    Raises:
        ConfigError: There are neither files nor `operations`, or both.
        DeviceError: The phone cannot be reached, or its benchmark fails.
        ModelFileError: A file cannot be read or run.
        OutputError: The results cannot be written.
    """
    from learn2compress.evaluation.measure import measure_latency, this_host
    from learn2compress.schemas.errors import ConfigError, OutputError
    from learn2compress.tflite.inspection import inspect_file

    paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
    tool = None if benchmark_model is None else Path(benchmark_model)
    if operations == bool(paths):
        raise ConfigError(
            f"either files or single operations must be measured; got {'both' if operations else 'neither'}. Name "
            ".tflite files, or pass --operations alone."
        )
    if operations:
        return _bench_operations(adb, serial, tool, output, say)
    for path in paths:
        inspect_file(path)  # a broken file is refused before anything is measured
    if not adb:
        found = []
        for path in paths:
            for latency in measure_latency(path, threads, runs):
                found.append((path, latency))
                say(f"{path.name}: {latency.p50_ms:.3g} ms (median), {latency.threads} threads, {this_host().name}")
        return Benchmark(this_host().name, found, None)
    from learn2compress.evaluation.latency.phone import measure_on_phone, open_phone, write_device_results

    phone = open_phone(serial)
    results = measure_on_phone(phone, paths, threads, runs, tool, say)
    target = Path(output or f"{phone.name}.json")
    try:
        write_device_results(target, phone, results)
    except OSError as error:
        raise OutputError(f"{target} must be writable; {error.strerror}. Choose another place.") from error
    return Benchmark(phone.name, [(result.file, result.latency) for result in results], target)


def _bench_operations(
    adb: bool, serial: str | None, tool: Path | None, output: str | Path | None, say: Callable[[str], None]
) -> Benchmark:
    """Measure the operations of networks on a phone or on this machine, and write the latency table."""
    from learn2compress.evaluation.latency.measuring import measure_operations, operations_to_measure
    from learn2compress.evaluation.latency.measuring_on_phone import host_of, measure_operations_on_phone
    from learn2compress.evaluation.latency.phone import open_phone
    from learn2compress.evaluation.latency.table import write_table
    from learn2compress.evaluation.measure import this_host
    from learn2compress.schemas.errors import OutputError

    files = operations_to_measure()
    if adb:
        phone = open_phone(serial)
        host, measured = host_of(phone), measure_operations_on_phone(phone, files, tool, say)
    else:
        host, measured = this_host(), measure_operations(files, say=say)
    target = Path(output or f"{host.name}-operations.json")
    try:
        write_table(target, host, measured)
    except OSError as error:
        raise OutputError(f"{target} must be writable; {error.strerror}. Choose another place.") from error
    return Benchmark(host.name, [], target)


def _with_bar(work: Callable[[Callable[[int, int], None]], Any], what: str, quiet: bool) -> Any:
    """Do some work with a progress bar on the error stream of a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    hidden = quiet or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True, force_jupyter=False), transient=True, disable=hidden) as progress:
        task = progress.add_task(what)
        return work(lambda done, total: progress.update(task, completed=done, total=total))
