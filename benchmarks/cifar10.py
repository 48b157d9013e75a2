# SPDX-License-Identifier: Apache-2.0
"""Runs the whole product on CIFAR-10, one joint run with a ResNet-56 teacher, and measures the int8 files.

Epochs are chosen on validation images that are split off the training part; the 10,000 test images are used once, for
the final files. It takes hours on two cores; after an interruption, the same command resumes after the last epoch.
Other files, such as MLPerf Tiny's ResNet-8, are evaluated on the same images, and their latency is measured alternately
with that of the students.

    python benchmarks/cifar10.py --data cifar10.npz --teacher resnet56_cifar10.h5 --output OUT \
        [--beside pretrainedResnet_quant.tflite] [--set distill.epochs=30]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np

from learn2compress.data.sources.formats import open_source
from learn2compress.evaluation.files import evaluate_files
from learn2compress.evaluation.measure import measure_latency
from learn2compress.schemas.config import DataConfig, EvaluateConfig
from learn2compress.schemas.reports import Candidate, Report
from learn2compress.schemas.units import format_bytes, format_count

CONFIG = Path(__file__).parent.parent / "examples" / "cifar10" / "config.yaml"
# (maximum bytes, minimum top-1)
AIMS = ((250_000, 0.920), (98_496, 0.910), (49_000, 0.890), (24_000, 0.850))
MOST_HOURS = 2  # of training
ROUNDS = 5  # rounds of latency measurements over all files, so that other load on the machine affects all files equally


def run_pipeline(data: str, teacher: str, output: Path, settings: list[str]) -> Report:
    """Runs the product from the command line; finished nodes come from the cache."""
    overrides = [f"data.path={data}", f"teacher.path={teacher}", *settings]
    command = [sys.executable, "-m", "learn2compress.cli.main", "run", str(CONFIG), "--output", str(output)]
    for override in overrides:
        command += ["--set", override]
    subprocess.run(command, check=True)
    return Report.model_validate_json((output / "report.json").read_text(encoding="utf-8"))


def latencies(files: list[Path]) -> dict[Path, float]:
    """Measures the median latency of one image on one thread in milliseconds, alternating between files."""
    times = {path: [] for path in files}
    for _ in range(ROUNDS):
        for path in files:
            times[path].append(measure_latency(path, [1], 100)[0].p50_ms)
    return {path: float(np.median(found)) for path, found in times.items()}


def row(name: str, candidate: Candidate, latency: float) -> str:
    """Formats a line of the table."""
    figures = candidate.figures["test"]
    half = (figures.top1_interval.high - figures.top1_interval.low) / 2
    return (
        f"| {name} | {format_bytes(candidate.bytes)} | {format_count(candidate.macs or 0)} | "
        f"{figures.top1:.2%} ±{half:.2%} | {latency:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="CIFAR-10 as .npz")
    parser.add_argument("--teacher", required=True, help="a Keras classifier of its images")
    parser.add_argument("--output", type=Path, required=True, help="output folder of the run; the same one resumes it")
    parser.add_argument("--beside", type=Path, action="append", default=[], help="a .tflite to compare with")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="override a field of the config")
    options = parser.parse_args()
    data, teacher = str(Path(options.data).resolve()), str(Path(options.teacher).resolve())
    report = run_pipeline(data, teacher, options.output, options.settings)

    students = [c for c in report.evaluation.candidates if c.variant == "int8" and not c.baseline]
    beside = evaluate_files(options.beside, open_source(DataConfig(path=data)), EvaluateConfig()).candidates
    files = {c.name: options.output / "models" / f"{c.name}.tflite" for c in students}
    files |= {c.name: path for c, path in zip(beside, options.beside, strict=True)}
    milliseconds = latencies(list(files.values()))
    hours = sum(epoch.seconds for epoch in report.curves) / 3600
    images = report.evaluation.images["test"]
    seed = report.config["pipeline"]["seed"]
    print(f"\n{images:,} test images, from the .tflite; seed {seed}; {hours:.1f} h of training")
    print("| file | size | MACs | top-1 | ms, one thread |\n| --- | ---: | ---: | ---: | ---: |")
    for candidate in (*reversed(students), *beside):
        print(row(candidate.name, candidate, milliseconds[files[candidate.name]]))
    relative = {}
    for other in beside:
        fitting = [c for c in students if c.bytes <= other.bytes]
        if fitting:
            nearest = max(fitting, key=lambda c: c.bytes)
            ratio = milliseconds[files[nearest.name]] / milliseconds[files[other.name]]
            relative[other.name] = {"student": nearest.name, "ratio": round(ratio, 3), "met": ratio <= 1}
    met = []
    for most, least in AIMS:
        fitting = [c for c in students if c.bytes <= most]
        best = max((c.figures["test"].top1 for c in fitting), default=0.0)
        met.append({"bytes_at_most": most, "top1_at_least": least, "top1": round(best, 4), "met": best >= least})
    print(
        json.dumps(
            {
                "aims": met,
                "hours_at_most": {"aim": MOST_HOURS, "met": hours <= MOST_HOURS},
                "latency_relative_to": relative,
                "files": [
                    {
                        "name": c.name,
                        "sha256": c.sha256,
                        "bytes": c.bytes,
                        "macs": c.macs,
                        "top1": round(c.figures["test"].top1, 4),
                        "latency_ms": round(milliseconds[files[c.name]], 3),
                    }
                    for c in (*students, *beside)
                ],
                "images": images,
                "training_hours": round(hours, 2),
                "teacher_forward_passes": report.teacher_forward_passes,
            }
        )
    )


if __name__ == "__main__":
    main()
