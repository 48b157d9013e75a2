# SPDX-License-Identifier: Apache-2.0
"""Measures students from a few hundred photographs: cut out of the teacher's network, and the other ways of beginning.

    python benchmarks/photos.py --flowers FOLDER --output OUT [--seeds 0 1 2] [--split test]
        [--show teacher built_in features] [--per-class 15] [--set distill.steps=640]…

FOLDER holds train/ and test/, each with a sub-folder of photographs for each class, and the teacher, a .keras file that
takes (pixel - 127) / 128. Nothing is downloaded. Each way of beginning is one run of the product for each seed, with
nothing set but the students' sizes. Accuracies are those of the emitted int8 files, on the validation images while
a recipe is being developed (`--split validation`), on the test images for final figures. `--per-class 15` keeps only
the first 15 training photographs of each class, in the order of their names. CPU seconds and peak memory are those of
the whole command, with its child processes. After an interruption, the same command resumes. The last line is one JSON
object.
"""

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import yaml

from learn2compress.evaluation.metrics import wilson_interval
from learn2compress.schemas.reports import Report
from learn2compress.schemas.units import format_bytes, format_count

SIZES = {"small": {"size_bytes": "155KB"}, "medium": {"size_bytes": "330KB"}, "large": {"size_bytes": "620KB"}}
GOALS = {"small": 0.905, "medium": 0.94, "large": 0.96}
GOALS_OF_FEW = {"large": 0.88}  # with 15 photographs of each class
WAYS = {
    "teacher": {"students": {"from": "teacher", "sizes": SIZES}},
    "built_in": {"students": {"sizes": SIZES}},
    "features": {"students": {"sizes": SIZES}, "distill": {"init": "features"}},
}
MOST_CPU_SECONDS, MOST_BYTES = 600, 2.5e9


def main() -> None:
    """Runs each way of beginning with each seed, and prints a table."""
    options = read_options()
    options.data = few_of(options.flowers, options.per_class, options.output) if options.per_class else options.flowers
    rows = [run(way, seed, options) for way in options.show for seed in options.seeds]
    print(f"\n| way | seed | file | bytes | MACs | {options.split} top-1 | CPU s | peak memory |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        for name, found in row["files"].items():
            low, high = found["interval"]
            print(
                f"| {row['way']} | {row['seed']} | {name} | {format_bytes(found['bytes'])} | "
                f"{format_count(found['macs'])} | {found['top1']:.1%} ({low:.1%} to {high:.1%}) | "
                f"{row['cpu_seconds']:.0f} | {format_bytes(row['peak_bytes'])} |"
            )
    print(json.dumps({"split": options.split, "runs": rows, "goals": goals_met(rows, options)}))


def run(way: str, seed: int, options: argparse.Namespace) -> dict:
    """Runs the product once, and reads its report."""
    folder = options.output / f"{way}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings_of(way, seed, options)), encoding="utf-8")
    command = [sys.executable, "-m", "learn2compress.cli.main", "run", str(config), "--output", str(folder / "out")]
    for setting in options.set:
        command += ["--set", setting]
    print(f"\n{way}, seed {seed}", flush=True)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(command)
    peak = watch(process)
    if process.wait():
        sys.exit(process.returncode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = Report.model_validate_json((folder / "out" / "report.json").read_text(encoding="utf-8"))
    files = {}
    for candidate in report.evaluation.candidates:
        if candidate.variant == "int8" and candidate.failed is None:
            figures = candidate.figures[options.split]
            interval = wilson_interval(round(figures.top1 * figures.images), figures.images)
            files[candidate.name] = {
                "bytes": candidate.bytes,
                "macs": candidate.macs,
                "full_int8": bool(candidate.full_int8),
                "top1": round(figures.top1, 4),
                "interval": [round(interval.low, 4), round(interval.high, 4)],
                "images": figures.images,
            }
    return {
        "way": way,
        "seed": seed,
        "files": files,
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "seconds": round(time.monotonic() - began, 1),
        "peak_bytes": peak,
    }


def few_of(flowers: Path, count: int, output: Path) -> Path:
    """Copies the test photographs, and the first ones of each class of the training photographs."""
    folder = output / f"data-{count}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(flowers / "test", folder / "test")
    for group in sorted((flowers / "train").iterdir()):
        (folder / "train" / group.name).mkdir(parents=True)
        for photograph in sorted(group.iterdir())[:count]:
            shutil.copy(photograph, folder / "train" / group.name)
    return folder


def settings_of(way: str, seed: int, options: argparse.Namespace) -> dict:
    """Makes the configuration: teacher, data, sizes, seed, and nothing else."""
    (teacher,) = sorted(options.flowers.glob("*.keras"))
    return {
        "teacher": {"path": str(teacher.resolve()), "scaling": {"mean": [127.0], "std": [128.0]}},
        "data": {"path": str(options.data.resolve())},
        "pipeline": {"name": "photos", "seed": seed},
        **WAYS[way],
    }


def watch(process: subprocess.Popen) -> int:
    """Samples the memory of a process and its descendants until it ends; returns the largest sum, in bytes."""
    largest = 0
    done = threading.Event()
    waiter = threading.Thread(target=lambda: (process.wait(), done.set()), daemon=True)
    waiter.start()
    while not done.wait(0.5):
        largest = max(largest, sum(map(resident_bytes, descendants(process.pid))))
    return largest


def descendants(pid: int) -> list[int]:
    """Lists a process and all processes that it started."""
    found = [pid]
    for one in found:
        try:
            children = Path(f"/proc/{one}/task/{one}/children").read_text(encoding="ascii").split()
        except OSError:
            continue
        found += map(int, children)
    return found


def resident_bytes(pid: int) -> int:
    """Reads the memory of a process in bytes, where shared pages count in proportion; 0 if it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def goals_met(rows: list[dict], options: argparse.Namespace) -> dict[str, bool]:
    """Compares the mean accuracies, CPU seconds and memory of students from the teacher with their goals."""
    own = [row for row in rows if row["way"] == "teacher"]
    if not own or options.split != "test":
        return {}
    means = {name: math.fsum(row["files"][f"{name}-int8"]["top1"] for row in own) / len(own) for name in SIZES}
    found = {name: means[name] >= goal for name, goal in (GOALS_OF_FEW if options.per_class else GOALS).items()}
    found["cpu_seconds"] = all(row["cpu_seconds"] <= MOST_CPU_SECONDS for row in own)
    found["memory"] = all(row["peak_bytes"] <= MOST_BYTES for row in own)
    return found


def read_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flowers", type=Path, required=True, help="folder with train/, test/ and the teacher")
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the runs")
    parser.add_argument("--split", choices=["validation", "test"], default="test", help="images of the accuracies")
    parser.add_argument("--show", choices=list(WAYS), nargs="+", default=list(WAYS), help="ways of beginning")
    parser.add_argument("--per-class", type=int, help="keep so many training photographs of each class")
    parser.add_argument("--set", action="append", default=[], help="override a field, as for learn2compress run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
