# SPDX-License-Identifier: Apache-2.0
"""Measures what pruning and 8-bit quantization save and cost in the shipped file, on CIFAR-10.

    python benchmarks/compression.py --data cifar10.npz --teacher resnet20_cifar10.h5 --output OUT \
        [--images 10000] [--epochs 20] [--fine-tune 10] [--seed 0] [--show structured|magnitude|int8|mixed_precision]…

Runs with and without each method are compared, with the same data, teacher, seed and distillation (which runs once and
then comes from the cache); an unpruned family is trained for as many epochs at the same learning rate. Every figure is
measured on the emitted .tflite file, accuracies on the test images. After an interruption, the same command resumes.
The last line is one JSON object.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np
import tf_keras as keras

from learn2compress.compression.family.model import cut_students
from learn2compress.compression.quantization.diagnosis import MixedPrecisionSettings, diagnose
from learn2compress.compression.quantization.on_device import QuantizedFamily, write_models
from learn2compress.compression.students.files import load_family
from learn2compress.data.batches import iter_numpy, read_examples
from learn2compress.schemas.manifests import StudentSetManifest, read_manifest
from learn2compress.schemas.reports import Candidate, Report
from learn2compress.schemas.units import format_bytes, format_count
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.model_file import ModelFile, prove_full_int8, read_model_file

CONFIG = Path(__file__).parent.parent / "examples" / "cifar10" / "config.yaml"
SIZES = {"small": "49KB", "medium": "98496B", "large": "250KB"}
STUDENTS, LARGE = tuple(SIZES), "large"
LEARNED = 0.5  # minimum top-1 of the unpruned large student for a meaningful comparison
# Settings under which nothing is pruned and the training is the same: a target that is already met keeps all channels.
UNPRUNED = ("prune.channels={bytes: 1000MB}", "prune.sparsity=0")


@dataclass(frozen=True)
class Run:
    """The candidates and files of one run of the product."""

    candidates: dict[str, Candidate]
    files: dict[str, ModelFile]

    def top1(self, name: str) -> float:
        """Returns a candidate's accuracy on the test images."""
        return self.candidates[name].figures["test"].top1


class Job:
    """Runs of the product on CIFAR-10 with common settings."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.done = options, {}

    def run(self, *settings: str) -> Run:
        """Runs the whole pipeline once for the given settings; unchanged nodes come from the cache."""
        if settings not in self.done:
            self.done[settings] = self._run(settings)
        return self.done[settings]

    def _run(self, settings: tuple[str, ...]) -> Run:
        options, output = self.options, self.options.output
        common = (
            f"data.path={options.data.resolve()}",
            f"teacher.path={options.teacher.resolve()}",
            f"students.sizes={json.dumps({name: {'size_bytes': size} for name, size in SIZES.items()})}",
            f"teacher.views={options.views}",
            f"distill.epochs={options.epochs}",
            "distill.ema_decay=0.99",
            f"prune.epochs={options.fine_tune}",
            f"prune.channel_epochs={options.fine_tune}",
            "prune.learning_rate=0.002",
            "prune.channel_learning_rate=0.002",
            f"quantize.epochs={options.quantize_epochs}",
            "quantize.variants=[float32, int8]",
            f"pipeline.seed={options.seed}",
        )
        command = [sys.executable, "-m", "learn2compress.cli.main", "run", str(CONFIG), "--output", str(output)]
        command += ["--limit", str(options.images)] if options.images else []
        for setting in (*common, *settings):
            command += ["--set", setting]
        print(f"\n{' '.join(settings)}", flush=True)
        subprocess.run(command, check=True)
        report = Report.model_validate_json((output / "report.json").read_text(encoding="utf-8"))
        files = {path.stem: read_model_file(path) for path in sorted((output / "models").glob("*.tflite"))}
        return Run({candidate.name: candidate for candidate in report.evaluation.candidates}, files)


def show_structured(job: Job) -> dict:
    """Removes channels: half of the large student's bytes and two fifths of its MACs."""
    before, after = job.run(*UNPRUNED), job.run("prune.channels={bytes: 50%, macs: 59%}", "prune.sparsity=0")
    found, rows = {}, []
    for student in STUDENTS:
        for variant in ("float32", "int8"):
            name = f"{student}-{variant}"
            old, new = before.candidates[name], after.candidates[name]
            found[name] = {
                "bytes": [old.bytes, new.bytes],
                "bytes_ratio": round(new.bytes / old.bytes, 4),
                "macs_ratio": round(new.macs / old.macs, 4),
                "top1": [round(before.top1(name), 4), round(after.top1(name), 4)],
                "retained": round(after.top1(name) / before.top1(name), 4),
            }
            rows.append(
                f"| {name} | {format_bytes(old.bytes)} | {format_bytes(new.bytes)} | {format_count(old.macs)} | "
                f"{format_count(new.macs)} | {before.top1(name):.2%} | {after.top1(name):.2%} |"
            )
    print("\n| file | bytes | pruned | MACs | pruned | top-1 | pruned |\n| --- |" + " ---: |" * 6)
    print("\n".join(rows))
    large = [found[f"{LARGE}-{variant}"] for variant in ("float32", "int8")]
    return {
        "files": found,
        # The target holds for the int8 file; a smaller part of the float file has a fixed size, so it shrinks more.
        "bytes_halved_within_5_percent": abs(large[1]["bytes_ratio"] - 0.5) <= 0.025
        and large[0]["bytes_ratio"] <= 0.525,
        "retains_97_percent": has_learned(before) and all(row["retained"] >= 0.97 for row in large),
        "macs_fall_by_40_percent": all(row["macs_ratio"] <= 0.6 for row in large),
    }


def show_magnitude(job: Job) -> dict:
    """Sets three quarters of the weights to zero, which quantization preserves."""
    before, after = job.run(*UNPRUNED), job.run("prune.sparsity=0.75")
    found, rows = {}, []
    for student in STUDENTS:
        name = f"{student}-int8"
        old, new = before.candidates[name], after.candidates[name]
        zeros = [pruned_zeros(run.files[name]) for run in (before, after)]
        found[name] = {
            "zeros": [round(fraction, 4) for fraction in zeros],
            "gzip_bytes": [old.gzip_bytes, new.gzip_bytes],
            "gzip_ratio": round(new.gzip_bytes / old.gzip_bytes, 4),
            "top1": [round(before.top1(name), 4), round(after.top1(name), 4)],
        }
        rows.append(
            f"| {name} | {zeros[0]:.1%} | {zeros[1]:.1%} | {format_bytes(old.gzip_bytes)} | "
            f"{format_bytes(new.gzip_bytes)} | {before.top1(name):.2%} | {after.top1(name):.2%} |"
        )
    print("\n| file | zeros | sparser | gzip | sparser | top-1 | sparser |\n| --- |" + " ---: |" * 6)
    print("\n".join(rows))
    large = found[f"{LARGE}-int8"]
    return {
        "files": found,
        "zeros_at_least_74_percent": all(row["zeros"][1] >= 0.74 for row in found.values()),
        "gzip_at_most_75_percent": large["gzip_ratio"] <= 0.75,
        "within_1.5_points": has_learned(before) and large["top1"][0] - large["top1"][1] <= 0.015,
    }


def has_learned(run: Run) -> bool:
    """Tells whether the unpruned student has learned enough for a meaningful comparison."""
    return run.top1(f"{LARGE}-int8") >= LEARNED


def show_int8(job: Job) -> dict:
    """Compares the quantization-aware trained int8 file of each student with its float32 file."""
    run = job.run(*UNPRUNED)
    found, rows = {}, []
    for student in STUDENTS:
        floating, integer = (f"{student}-{variant}" for variant in ("float32", "int8"))
        sizes = [run.candidates[name].bytes for name in (floating, integer)]
        accuracies = [run.top1(name) for name in (floating, integer)]
        found[student] = {
            "bytes": sizes,
            "bytes_ratio": round(sizes[1] / sizes[0], 4),
            "top1": [round(accuracy, 4) for accuracy in accuracies],
            "full_int8": prove_full_int8(run.files[integer]).holds,
        }
        rows.append(
            f"| {student} | {format_bytes(sizes[0])} | {format_bytes(sizes[1])} | {sizes[1] / sizes[0]:.3f} | "
            f"{accuracies[0]:.2%} | {accuracies[1]:.2%} |"
        )
    print("\n| student | float32 | int8 | ratio | top-1 float32 | int8 |\n| --- |" + " ---: |" * 5)
    print("\n".join(rows))
    return {
        "students": found,
        "bytes_at_most_33_percent": found[LARGE]["bytes_ratio"] <= 0.33,
        "within_0.5_points": has_learned(run)
        and all(row["top1"][0] - row["top1"][1] <= 0.005 for row in found.values()),
        "full_int8": all(row["full_int8"] for row in found.values()),
    }


def show_mixed_precision(job: Job) -> dict:
    """Spoils one layer of the large student; the ranking must find it, and the mixed-precision file must repair it."""
    job.run(*UNPRUNED)
    pipeline = job.options.output / "pipeline"
    source = newest(pipeline / "Pruner" / "pruned_students")
    examples = newest(pipeline / "ImageExampleGen" / "examples")
    before = read_manifest(source, StudentSetManifest)
    names = tuple(student.name for student in before.students)
    student = cut_students(load_family(source, before), names)[LARGE]
    images, labels = first_images(examples, "validation", 2000)
    settings = MixedPrecisionSettings(drop=0.005, layers=4, images=images, labels=labels)
    folder = job.options.output / "spoiled"
    train, _ = first_images(examples, "train", 256)
    spoiled, reader = spoil(student)
    made = QuantizedFamily(student, None, (LARGE,))
    manifest = write_models(folder, made, before, ["float32", "int8"], list(train), [], [])
    manifest = diagnose(folder, manifest, made, list(train), settings)
    images, labels = first_images(examples, "test", 10_000)
    found = {}
    print("\n| file | bytes | top-1 | layers in float |\n| --- | ---: | ---: | --- |")
    for model in manifest.models:
        predicted = open_model(folder / model.file.path).predict(images).argmax(axis=1)
        layers = model.rescue.layers if model.rescue else []
        found[model.variant] = {"bytes": model.file.bytes, "top1": round(float(np.mean(predicted == labels)), 4)}
        accuracy = f"{found[model.variant]['top1']:.2%}"
        print(f"| {model.name} | {format_bytes(model.file.bytes)} | {accuracy} | {', '.join(layers) or '-'} |")
    (error,) = manifest.quantization_error
    for layer in error.layers[:5]:
        print(f"{layer.layer}: logits at {layer.logits_sqnr_db:.1f} dB, its own output at {layer.sqnr_db:.1f} dB")
    rescued = found.get("int8-rescued")
    return {
        "files": found,
        "spoiled": [spoiled, reader],
        "ranking": [[layer.layer, round(layer.logits_sqnr_db, 1)] for layer in error.layers[:5]],
        "ranked_worst": error.layers[0].layer == spoiled,
        "rescued_within_0.5_points": rescued is not None and found["float32"]["top1"] - rescued["top1"] <= 0.005,
        "whole_int8_was_bad": found["float32"]["top1"] - found["int8"]["top1"] > 0.05,
    }


def spoil(student: keras.Model) -> tuple[str, str]:
    """Multiplies a channel of a depthwise layer by 3000, and divides the next layer's weights for it by 3000.

    The float outputs stay the same. In 8 bits the range of the layer has no resolution for its other channels, and the
    kernel of the next layer has none for the weights of this channel.

    Returns:
        The names of the layer and of the next layer.
    """
    blocks = [layer.name.removesuffix("_dw") for layer in student.layers if layer.name.endswith("_dw")]
    block = blocks[len(blocks) // 2]
    norm, reader = student.get_layer(f"{block}_dw_bn"), student.get_layer(f"{block}_pw")
    gamma, beta, mean, variance = norm.get_weights()
    channel = int(np.argmax(np.abs(gamma)))
    gamma[channel] *= 3000
    beta[channel] *= 3000
    norm.set_weights([gamma, beta, mean, variance])
    kernel, *bias = reader.get_weights()
    kernel[:, :, channel] /= 3000
    reader.set_weights([kernel, *bias])
    return f"{block}_dw", f"{block}_pw"


def newest(folder: Path) -> Path:
    """Finds the artifact of a node's last execution."""
    return max((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def first_images(examples: Path, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads at most `count` images of a split, [n, height, width, channels] uint8, and their labels."""
    batches = list(iter_numpy(read_examples(examples, split, 256).take(-(-count // 256))))
    images, labels = (np.concatenate([batch[key] for batch in batches]) for key in ("example", "label"))
    return images[:count], labels[:count]


def pruned_zeros(model: ModelFile) -> float:
    """Computes the fraction of zeros in the prunable kernels: dense and convolutional ones, except the first."""
    operators = [o for o in model.operators if o.name in ("CONV_2D", "FULLY_CONNECTED")]
    tensors = {(tensor.subgraph, tensor.index): tensor for tensor in model.tensors}
    kernels = [tensors[operator.subgraph, operator.inputs[1]] for operator in operators[1:]]
    return sum(k.sparsity * k.elements for k in kernels) / sum(k.elements for k in kernels)


SHOWS: dict[str, Callable[[Job], dict]] = {
    "structured": show_structured,
    "magnitude": show_magnitude,
    "int8": show_int8,
    "mixed_precision": show_mixed_precision,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as .npz")
    parser.add_argument("--teacher", type=Path, required=True, help="a Keras classifier of its images, pixels 0..255")
    parser.add_argument("--output", type=Path, required=True, help="output folder; the same one resumes the runs")
    parser.add_argument("--images", type=int, default=10_000, help="images of each part of the data; 0: all")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the distillation")
    parser.add_argument("--fine-tune", type=int, default=10, help="epochs of pruning, or of training without it")
    parser.add_argument("--quantize-epochs", type=int, default=2, help="epochs of quantization-aware training")
    parser.add_argument("--views", type=int, default=4, help="views of each image for the teacher's inference")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", choices=SHOWS, action="append", help="default: all")
    options = parser.parse_args()
    job = Job(options)
    found = {show: SHOWS[show](job) for show in options.show or SHOWS}
    settings = {key: getattr(options, key) for key in ("images", "epochs", "fine_tune", "quantize_epochs", "seed")}
    print(json.dumps({**found, "settings": settings}))


if __name__ == "__main__":
    main()
