# SPDX-License-Identifier: Apache-2.0
"""`learn2compress bench`: measures the latency of files on this machine or on a phone.

Exit status: 0 all files were measured; 2 a file, the phone or an option cannot be used.
"""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    files: list[Path] = typer.Argument(None, help="TensorFlow Lite files; none with --operations."),
    operations: bool = typer.Option(
        False, "--operations", help="Measure single operations instead, for students.latency_table."
    ),
    adb: bool = typer.Option(False, "--adb", help="Measure on a connected Android phone with benchmark_model."),
    threads: list[int] = typer.Option([1], min=1, help="Thread count (repeatable)."),
    runs: int = typer.Option(50, min=1, help="Number of timed inferences; on a phone at least so many."),
    serial: str | None = typer.Option(None, help="Serial number of the phone, if there are several."),
    benchmark_model: Path | None = typer.Option(
        None, help="A benchmark_model to push to the phone (default: the one in /data/local/tmp)."
    ),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="File for the results of the phone or of --operations (default: from its name)."
    ),
) -> None:
    """Measure the latency of .tflite files, on this machine or on a phone.

    With --adb the results are written as JSON, for evaluate.device_results of a
    run: they then replace the latencies of the machine that runs the pipeline.

    With --operations a latency table is written, from which the latency of
    students is predicted before they are trained: students.sizes can then have
    limits such as {latency_ms: 0.5} for that machine or phone.
    """
    from learn2compress.api import measuring

    found = measuring.bench(
        files or (),
        operations=operations,
        adb=adb,
        threads=threads,
        runs=runs,
        serial=serial,
        benchmark_model=benchmark_model,
        output=output,
        say=typer.echo,
    )
    if operations:
        typer.echo(
            f"Wrote {found.path}. Use it: learn2compress run CONFIG -o OUT --set students.latency_table={found.path}"
        )
    elif found.path is not None:
        typer.echo(
            f"Wrote {found.path}. Use it: learn2compress run CONFIG -o OUT --set evaluate.device_results={found.path}"
        )
