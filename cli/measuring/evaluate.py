# SPDX-License-Identifier: Apache-2.0
"""`learn2compress evaluate`: measures any .tflite classifiers on any labelled images.

How each file is read is said beside its figures, and what may be wrong with them on the error stream and under
`warnings` in the JSON.

Exit status: 0 all files were measured; 2 a file or the data cannot be used (the other files are still measured).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from learn2compress.schemas.units import format_bytes, format_count

if TYPE_CHECKING:
    from learn2compress.api.measuring import Measurements
    from learn2compress.schemas.reports import Candidate


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    files: list[Path] = typer.Argument(..., help="TensorFlow Lite classifiers."),
    data: str = typer.Option(
        ...,
        "--data",
        help="Image folder, .npz, .csv or TFRecord files, or the word digits; tables or folders of texts.",
    ),
    data_format: str = typer.Option(
        "auto", "--format", help="folder, npz, tfrecord, csv, tsv, jsonl, parquet or digits (default: detected)."
    ),
    classes: str | None = typer.Option(None, help="Class names in the order of the outputs, separated by commas."),
    label_offset: int | None = typer.Option(None, help="Taken off whole-number labels: 1 where they begin at 1."),
    image_feature: str | None = typer.Option(None, help="TFRecord: name of the image feature (default: a usual one)."),
    label_feature: str | None = typer.Option(None, help="TFRecord: name of the label feature (default: a usual one)."),
    text_column: str | None = typer.Option(None, help="Texts: name of the column (default: a usual one)."),
    label_column: str | None = typer.Option(None, help="Texts: name of the column of labels (default: a usual one)."),
    limit: int | None = typer.Option(None, min=1, help="Use at most this many examples, evenly spaced."),
    scaling: str | None = typer.Option(
        None,
        help="What the files expect of pixels 0..255: none, unit, symmetric, imagenet, caffe (default: what each "
        "file's metadata or its input's range says).",
    ),
    signature: str | None = typer.Option(None, help="Signature to run (default: serving_default, or the only one)."),
    output: str | None = typer.Option(None, help="Name or index of the output with the scores, of several."),
    skip_class: list[str] = typer.Option(
        [], help="Leave out an output that the data has no class for, such as a background class (repeatable)."
    ),
    allow_near_chance: bool = typer.Option(
        False, help="Print figures that may be meaningless, with a warning, instead of refusing the file."
    ),
    top_k: int = typer.Option(5, min=1, help="Also report how often the true class is among the k highest scores."),
    threads: list[int] = typer.Option([1], min=1, help="Thread count for the latency measurement (repeatable)."),
    runs: int = typer.Option(50, min=1, help="Number of timed inferences."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON list with one object for each file."),
) -> int:
    """Measure accuracy, size and latency of .tflite files.

    The images are those of the data's test split, or all images if the data has no splits. Without a test split they
    are those of the validation split or of the training split, which is said.
    """
    from learn2compress.api import measuring

    found = measuring.evaluate(
        files,
        data,
        format=data_format,
        classes=classes.split(",") if classes else None,
        label_offset=label_offset,
        image_feature=image_feature,
        label_feature=label_feature,
        text_column=text_column,
        label_column=label_column,
        limit=limit,
        scaling=scaling,
        signature=signature,
        output=output,
        skip_class=skip_class,
        allow_near_chance=allow_near_chance,
        top_k=top_k,
        threads=threads,
        runs=runs,
    )
    host = found.host.model_dump(mode="json", exclude={"source"})
    if as_json:
        records = [_record(c, found.classes, host) for c in found.candidates]
        typer.echo(json.dumps(records, indent=1, ensure_ascii=False))
    else:
        _print_table(found, host)
    if found.skipped:
        first = found.skipped[0]
        typer.echo(
            f"{len(found.skipped)} {found.modality}s were skipped; the first is {first.source}: {first.reason}",
            err=True,
        )
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for reason in found.failed:
        typer.echo(f"learn2compress: {reason}", err=True)
    return 2 if found.failed else 0


def _record(candidate: "Candidate", classes: tuple[str, ...], host: dict[str, Any]) -> dict[str, Any]:
    """Convert the measurements of a file to JSON."""
    known = candidate.model_dump(
        mode="json",
        include={
            "file", "sha256", "bytes", "gzip_bytes", "parameters", "macs", "arena_bytes", "ops", "sparsity",
            "full_int8", "float_tensors", "latency", "failed", "read_as", "warnings",
        },
    )  # fmt: skip
    figures = candidate.figures.get("test")
    if figures is None:
        return {"file": known.pop("file"), "accuracy": None, **known}
    return {
        "file": known.pop("file"),
        "sha256": known.pop("sha256"),
        "accuracy": figures.top1,
        "accuracy_interval": [figures.top1_interval.low, figures.top1_interval.high],
        "images": figures.images,
        "topk": figures.topk,
        "k": figures.k,
        "calibration_error": figures.calibration_error,
        **known,
        "host": host,
        "per_class": [{"class": name, **of.model_dump()} for name, of in zip(classes, figures.per_class, strict=True)],
        "confusion": figures.confusion,
    }


def _print_table(found: "Measurements", host: dict[str, Any]) -> None:
    from rich.table import Table

    from learn2compress.cli.console import PlainConsole

    table = Table(
        title=f"{found.part} {found.modality}s; latency on {host['name']}, {host['runtime']}", title_justify="left"
    )
    for column in ("file", "accuracy", "95 % interval", "size", "MACs", "latency"):
        table.add_column(column, justify="left" if column == "file" else "right", overflow="fold")
    for candidate in found.candidates:
        figures = candidate.figures.get("test")
        if figures is None:
            table.add_row(candidate.name, "failed", "", format_bytes(candidate.bytes), "", "")
            continue
        low, high = figures.top1_interval.low, figures.top1_interval.high
        table.add_row(
            candidate.name,
            f"{figures.top1:.2%}",
            f"{low:.1%} – {high:.1%}",
            format_bytes(candidate.bytes),
            format_count(candidate.macs or 0),
            f"{candidate.latency[0].p50_ms:.3g} ms",
        )
    PlainConsole().print(table)
    for candidate in found.candidates:
        if candidate.read_as:
            typer.echo(f"{candidate.name}: {'; '.join(candidate.read_as)}")
