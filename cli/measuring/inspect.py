# SPDX-License-Identifier: Apache-2.0
"""`learn2compress inspect`: shows the contents of a .tflite file.

Exit status: 0 the file was read; 2 it is not a .tflite file, or is truncated.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from learn2compress.schemas.units import format_bytes, format_count

if TYPE_CHECKING:
    from rich.table import Table

    from learn2compress.tflite.inspection import Inspection, SignatureCosts, TensorEnd, Tokenizing


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inspect")(inspect)


def inspect(
    file: Path = typer.Argument(..., help="A TensorFlow Lite file, from this or any other tool."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON object with all values."),
) -> None:
    """Show the contents of a .tflite file: inputs, outputs, labels, operators, and size by layer."""
    from learn2compress.api import measuring

    found = measuring.inspect(file)
    if as_json:
        typer.echo(found.model_dump_json(indent=1, by_alias=True))
        return
    from learn2compress.cli.console import PlainConsole

    console = PlainConsole(highlight=False)
    for line in _facts(found):
        console.print(line, markup=False, soft_wrap=True)
    console.print(_layer_table(found))
    rest = found.file_bytes - found.weight_bytes
    console.print(
        f"{format_bytes(found.weight_bytes)} are constants of the layers; the other {format_bytes(max(rest, 0))} are "
        "structure, scales and metadata.",
        markup=False,
    )
    if found.metadata is not None and found.metadata.tokenizer is not None:
        from learn2compress.modalities import modality_named

        for label, words in modality_named("text").device_format.class_words(file).items():
            console.print(f"words for {label}: {', '.join(words) or 'none'}", markup=False, soft_wrap=True)


def _facts(found: "Inspection") -> list[str]:
    facts = [
        ("file", found.file),
        ("SHA-256", found.sha256),
        ("size", f"{format_bytes(found.file_bytes)}, {format_bytes(found.gzip_bytes)} with gzip"),
        *(("input", _end(end)) for end in found.inputs),
        *(("output", _end(end)) for end in found.outputs),
    ]
    if len(found.signatures) > 1:
        facts += [("signature", _signature(signature)) for signature in found.signatures]
    if found.metadata is None:
        facts.append(("metadata", "none: neither labels nor normalization"))
    else:
        about = found.metadata
        facts += [
            ("metadata", f"{about.name}: {about.description}" if about.description else about.name),
            ("words", _words(about.tokenizer))
            if about.tokenizer
            else ("normalization", _normalization(about.mean, about.std)),
            ("labels", _labels(about.labels, about.lost_labels)),
        ]
    if found.files:
        facts.append(("files", ", ".join(f"{name} {format_bytes(size)}" for name, size in found.files.items())))
    proof = "verified" if found.full_int8.holds else "no: " + "; ".join(found.full_int8.reasons)
    facts += [
        ("quantization", found.quantization),
        ("full int8", proof),
        ("parameters", format_count(found.parameters) + _zeros(found.sparsity)),
        ("MACs", _macs(found)),
        ("memory", _memory(found)),
        ("operators", ", ".join(f"{count} {name}" for name, count in found.ops.items())),
    ]
    return [f"{what + ':':<15}{value}" for what, value in facts]


def _end(end: "TensorEnd") -> str:
    text = f"{end.name}, {end.dtype} {end.shape}"
    if len(end.scale) == 1:
        return f"{text}, scale {end.scale[0]:.6g}, zero point {end.zero_point[0]}"
    return f"{text}, {len(end.scale)} scales" if end.scale else text


def _signature(found: "SignatureCosts") -> str:
    ends = f"{', '.join(found.inputs)} → {', '.join(found.outputs)}"
    return f"{found.name}, {ends}, {format_count(found.parameters)} parameters, {format_count(found.macs)} MACs"


def _normalization(mean: list[float], std: list[float]) -> str:
    if not mean:
        return "not specified"
    if set(mean) == {0.0} and set(std) == {1.0}:
        return "none (pixels 0..255)"
    values = [", ".join(f"{value:g}" for value in of) for of in (mean, std)]
    return f"(pixel - mean) / std, mean {values[0]}, std {values[1]}"


def _macs(found: "Inspection") -> str:
    if not found.custom_ops:
        return format_count(found.macs)
    return f"{format_count(found.macs)}, without those of {', '.join(found.custom_ops)}, which cannot be counted"


def _words(tokenizer: "Tokenizing") -> str:
    count = f"{tokenizer.words:,} words" if tokenizer.words is not None else "which is not in the file"
    vocabulary = f", {tokenizer.vocabulary} ({count})" if tokenizer.vocabulary else ""
    return f"{tokenizer.kind}{f', split by {tokenizer.pattern}' if tokenizer.pattern else ''}{vocabulary}"


def _memory(found: "Inspection") -> str:
    if found.arena_bytes is None:
        return f"at least {format_bytes(found.activation_bytes or 0)} for activations; {found.arena_unknown}"
    return f"{format_bytes(found.arena_bytes)} for activations"


def _layer_table(found: "Inspection") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("layer", "output", "type", "params", "MACs", "bytes", "share", "zeros"):
        table.add_column(column, justify="left" if column in ("layer", "output", "type") else "right", no_wrap=True)
    for layer in found.layers:
        place = f"{layer.subgraph}.{layer.index}" if layer.subgraph else str(layer.index)
        kinds = dict.fromkeys(kind for kind in (layer.weights_dtype, layer.dtype) if kind)
        # The first dimension is the batch.
        sides = layer.output_shape[1:] if len(layer.output_shape) > 1 else layer.output_shape
        table.add_row(
            f"{place} {layer.op}",
            "×".join("?" if side < 0 else str(side) for side in sides) or "–",
            " → ".join(kinds),
            format_count(layer.parameters) if layer.parameters else "–",
            format_count(layer.macs) if layer.macs else "–",
            f"{layer.weight_bytes:,}" if layer.weight_bytes else "–",
            f"{layer.weight_bytes / found.file_bytes:.0%}" if layer.weight_bytes else "–",
            "–" if layer.sparsity is None else f"{layer.sparsity:.0%}",
        )
    return table


def _zeros(sparsity: float | None) -> str:
    return "" if sparsity is None else f", {sparsity:.0%} of the kernels' values are zero"


def _labels(labels: list[str], lost: str) -> str:
    if lost:
        return f"none: the metadata name {lost}, which another tool has left out of the file"
    return f"{len(labels)}: {_some(labels)}" if labels else "none"


def _some(labels: list[str]) -> str:
    shown = ", ".join(labels[:12])
    return f"{shown} … {labels[-1]}" if len(labels) > 12 else shown
