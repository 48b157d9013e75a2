# SPDX-License-Identifier: Apache-2.0
"""Compares recipes for the CIFAR-10 run of cifar10.py on validation images: each recipe changes one thing.

    python benchmarks/ablations/recipe.py --data cifar10.npz --teacher resnet56_cifar10.h5 --output OUT \
        [--epochs 20] [--views 8] [--seeds 0 1] [--show plain mixed]

Each run is one of the whole product, shortened; what recipes share, such as the teacher's logits on the same views,
comes from the cache. Accuracies are those of the int8 files on the validation images, which are split off the training
part; test images are not looked at. After an interruption, the same command resumes. The last line is one JSON object.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from learn2compress.schemas.reports import Report

CONFIG = Path(__file__).parent.parent.parent / "examples" / "cifar10" / "config.yaml"
# Overrides of the configuration of cifar10.py by name of the recipe.
RECIPES = {
    "plain": [],
    "mixed": ["teacher.view_mix=true"],
    "separable": ["students.blocks=separable"],
    "even": ["distill.student_weights={}"],
    "labels": ["distill.soft_weight=0.5"],
    "no_average": ["distill.ema_decay=0"],
}


def run(recipe: str, seed: int, options: argparse.Namespace) -> dict:
    """Runs the product, unless it has run already, and reads the accuracies of the int8 files."""
    folder, kept = options.output / f"seed-{seed}", options.output / f"{recipe}-{seed}.json"
    if not kept.exists():
        overrides = [
            f"data.path={options.data.resolve()}", f"teacher.path={options.teacher.resolve()}",
            f"teacher.views={options.views}", f"distill.epochs={options.epochs}", "quantize.epochs=1",
            f"pipeline.seed={seed}", "students.blocks=by_stage", *RECIPES[recipe],
        ]  # fmt: skip
        command = [sys.executable, "-m", "learn2compress.cli.main", "run", str(CONFIG), "--output", str(folder)]
        for override in overrides:
            command += ["--set", override]
        print(f"\n{recipe}, seed {seed}", flush=True)
        subprocess.run(command, check=True)
        shutil.copy(folder / "report.json", kept)
    report = Report.model_validate_json(kept.read_text(encoding="utf-8"))
    students = [c for c in report.evaluation.candidates if c.variant == "int8" and not c.baseline]
    return {
        "recipe": recipe,
        "seed": seed,
        "top1": {c.name: round(c.figures["validation"].top1, 4) for c in students},
        "images": report.evaluation.images["validation"],
        "training_seconds": round(sum(epoch.seconds for epoch in report.curves)),
    }


def cell(values: list[float]) -> str:
    """Formats the mean of some accuracies, with their standard deviation if there are several."""
    spread = f" ± {statistics.stdev(values) * 100:.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values) * 100:.2f}{spread}"


def main() -> None:
    """Runs each recipe with each seed, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as .npz")
    parser.add_argument("--teacher", type=Path, required=True, help="a Keras classifier of its images")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs; the same one resumes")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of joint distillation")
    parser.add_argument("--views", type=int, default=8, help="views of each image for which the teacher gives logits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--show", choices=list(RECIPES), nargs="+", default=list(RECIPES), help="recipes to compare")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    runs = [run(recipe, seed, options) for seed in options.seeds for recipe in options.show]

    names = list(runs[0]["top1"])
    print(f"\n{runs[0]['images']:,} validation images, int8 files, {options.epochs} epochs, seeds {options.seeds}")
    print(f"| recipe | {' | '.join(names)} | training, s |\n| --- |{' ---: |' * (len(names) + 1)}")
    for recipe in options.show:
        own = [one for one in runs if one["recipe"] == recipe]
        cells = [cell([one["top1"][name] for one in own]) for name in names]
        seconds = statistics.mean(one["training_seconds"] for one in own)
        print(f"| {recipe} | {' | '.join(cells)} | {seconds:.0f} |")
    print(json.dumps({"split": "validation", "epochs": options.epochs, "views": options.views, "runs": runs}))


if __name__ == "__main__":
    main()
