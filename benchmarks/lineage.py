# SPDX-License-Identifier: Apache-2.0
"""Measures how long the processes of `lineage`, `impact`, `history`, `diff` and `verify` take on a large store.

Builds a store of RUNS runs of ten executions each, in the form that the pipeline writes (small artifacts, real
records), all with the same teacher. Measures the commands on the command line, and the first query after the deletion
of the index.

    python benchmarks/lineage.py [--runs 1000] [--keep FOLDER]
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from learn2compress.lineage.index import INDEX_FILE
from learn2compress.lineage.records.provenance import describe_output, record_of, save_record
from learn2compress.schemas.provenance import Input, Output, timestamp
from learn2compress.storage.location import Location

TEACHER = b"teacher" * 1000
MODELS = [f"{size}-{variant}" for size in ("small", "medium", "large") for variant in ("float32", "int8")]
# Nodes with their inputs, their outputs, and the number of files of each artifact.
DAG: list[tuple[str, list[str], dict[str, tuple[str, int]]]] = [
    ("ImageExampleGen", [], {"examples": ("Examples", 8)}),
    ("StatisticsGen", ["ImageExampleGen.examples"], {"statistics": ("ExampleStatistics", 3)}),
    ("SchemaGen", ["StatisticsGen.statistics"], {"schema": ("Schema", 1)}),
    ("ExampleValidator", ["StatisticsGen.statistics", "SchemaGen.schema"], {"anomalies": ("ExampleAnomalies", 3)}),
    (
        "TeacherImporter",
        ["ImageExampleGen.examples"],
        {"teacher": ("learn2compress.Teacher", 0), "teacher_logits": ("learn2compress.TeacherLogits", 8)},
    ),
    (
        "Distiller",
        ["ImageExampleGen.examples", "TeacherImporter.teacher", "TeacherImporter.teacher_logits"],
        {"students": ("learn2compress.StudentSet", 5)},
    ),
    (
        "Pruner",
        ["ImageExampleGen.examples", "TeacherImporter.teacher_logits", "Distiller.students"],
        {"pruned_students": ("learn2compress.StudentSet", 5)},
    ),
    (
        "Quantizer",
        ["ImageExampleGen.examples", "TeacherImporter.teacher_logits", "Pruner.pruned_students"],
        {"models": ("learn2compress.OnDeviceModelSet", 0)},
    ),
    (
        "TFLiteEvaluator",
        ["Quantizer.models", "ImageExampleGen.examples", "TeacherImporter.teacher"],
        {"evaluation": ("learn2compress.ModelEvaluation", 0)},
    ),
    (
        "StudentSelector",
        ["TFLiteEvaluator.evaluation", "Quantizer.models"],
        {"selection": ("learn2compress.Selection", 0)},
    ),
]


def main() -> None:
    """Builds the store and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="folder in which the store is built and kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary)
        began = time.monotonic()
        build(root / "pipeline", arguments.runs)
        print(f"{arguments.runs:,} runs, {10 * arguments.runs:,} executions, built in {time.monotonic() - began:.0f} s")
        measure(root, arguments.runs)


def build(root: Path, runs: int) -> None:
    """Writes the artifacts and records of a number of runs."""
    location = Location(root)
    for run in range(runs):
        made: dict[str, tuple[Output, str, str]] = {}
        for number, (node, inputs, outputs) in enumerate(DAG):
            execution = run * len(DAG) + number + 1
            described = []
            for key, (kind, count) in outputs.items():
                uri = f"{node}/{key}/{execution}"
                for name, content in files(node, key, count, run).items():
                    target = root / uri / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
                properties = {f"figure_{i}": i / 7 + run for i in range(12)} | {"chosen": "large-int8"}
                described.append(describe_output(location, uri, key, kind, properties=properties))
            read = [
                Input(one.key, one.uri, one.type, one.digest, record=record, record_sha256=sha256)
                for one, record, sha256 in (made[name] for name in inputs)
            ]
            parameters = {f"{node.lower()}_parameter_{i}": i * 0.5 for i in range(15)} | {"seed": run}
            if node == "TeacherImporter":
                parameters["teacher_sha256"] = hashlib.sha256(TEACHER).hexdigest()
            statement = record_of(
                node, read, described, parameters, pipeline="learn2compress", run=f"run-{run:05}",
                execution=str(execution), started=timestamp(execution * 60_000),
                finished=timestamp(execution * 60_000 + 30_000), invocation=f"{run}-{number}",
            )  # fmt: skip
            save_record(location, statement)
            sha256 = hashlib.sha256(statement.to_bytes()).hexdigest()
            for output in described:
                made[f"{node}.{output.key}"] = (output, statement.path, sha256)


def files(node: str, key: str, count: int, run: int) -> dict[str, bytes]:
    """Makes the files of an artifact by name."""
    if key == "teacher":
        manifest = {"sha256": hashlib.sha256(TEACHER).hexdigest(), "bytes": len(TEACHER), "accuracy": {"test": 0.9}}
        return {"model/teacher.keras": TEACHER, "manifest.json": json.dumps(manifest).encode()}
    models = {f"{name}.tflite": f"{name} of run {run}".encode() for name in MODELS}
    if key == "models":
        return {**models, "manifest.json": b'{"models": []}', "curves.json": b"[]"}
    if key == "evaluation":
        candidates = [
            {"name": name, "sha256": hashlib.sha256(models[f"{name}.tflite"]).hexdigest(), "bytes": 9,
             "figures": {"test": {"top1": 0.9, "images": 1000}}}
            for name in MODELS
        ]  # fmt: skip
        return {"evaluation.json": json.dumps({"candidates": candidates, "host": {"name": "h"}}).encode()}
    if key == "selection":
        verdicts = [{"candidate": name, "status": "front", "reason": "on the front"} for name in MODELS]
        return {"selection.json": json.dumps({"chosen": "large-int8", "verdicts": verdicts}).encode()}
    if node == "ImageExampleGen":
        # Each run has its own data; the teacher is common to all runs.
        return {f"Split-train/{i}.gz": f"{run} {i}".encode() for i in range(count)}
    return {f"file-{i}": f"{node} {key} {run} {i}".encode() for i in range(count)}


def measure(root: Path, runs: int) -> None:
    """Measures the commands and prints their times."""
    pipeline = root / "pipeline"
    first, last = (
        pipeline / "Quantizer" / "models" / str(run * len(DAG) + 8) / "large-int8.tflite" for run in (0, runs - 1)
    )
    teacher = hashlib.sha256(TEACHER).hexdigest()
    commands: Mapping[str, list[str]] = {
        "lineage FILE": ["lineage", str(last), "--at", str(root)],
        "lineage FILE --json": ["lineage", str(last), "--at", str(root), "--json"],
        "impact TEACHER": ["impact", teacher, "--at", str(root)],
        "impact TEACHER --json": ["impact", teacher, "--at", str(root), "--json"],
        "diff A B": ["diff", str(first), str(last), "--at", str(root)],
        "history": ["history", str(root)],
    }
    for name, command in commands.items():
        seconds = [run_command(command) for _ in range(5)]
        print(f"{name:24} {statistics.median(seconds):6.2f} s   (of five: {min(seconds):.2f} to {max(seconds):.2f})")
    (pipeline / INDEX_FILE).unlink()
    print(f"{'lineage, no index':24} {run_command(commands['lineage FILE']):6.2f} s")
    print(f"{'verify, all files':24} {run_command(['verify', str(root)]):6.2f} s")


def run_command(arguments: list[str]) -> float:
    """Runs a command in a new process; returns its time in seconds."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "learn2compress.cli.main", *arguments], capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{arguments} exits {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    return seconds


if __name__ == "__main__":
    main()
