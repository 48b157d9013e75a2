# SPDX-License-Identifier: Apache-2.0
"""Measures how stored bytes, memory and time grow with the number of photographs, and what further workers give.

    python benchmarks/scale.py --output FOLDER [--parts storage input memory workers growth]
        [--images 5000] [--counts 1000 10000 100000] [--workers 1 2 4] [--repeats 3] [--stages ingest read]

The photographs are generated: crops of textures whose power falls with their frequency as that of natural images does,
with edges, encoded as JPEG of 500 x 375 pixels in qualities from 75 to 95; FOLDER keeps them for the next time. They
are the same in each run. Each stage runs in a process of its own, by the code of the product: `ingest` (of
ImageExampleGen), `read` (batches of 64, about those of TeacherImporter), `epoch` (the training's input alone,
with views and shuffling), `teacher` (TeacherImporter), `evaluate` (TFLiteEvaluator). The parts:

    storage   bytes of the stored examples relative to those of the source, and images a second of ingestion and reading
    input     images a second of the training's input pipeline alone, encoded and raw
    memory    peak memory of each stage with --images / 10 and with --images
    workers   images a second of evaluator and teacher by the number of workers, without the start of the workers, from
              --images / 10 and --images
    growth    seconds per image by the number of images, and the time of 10,000,000 images by the last slope

The last two take photographs of 200 x 150, stored with 96 x 96. What a stage needs before its first image (imports,
opening a model, starting workers) is left out of them and of `input`: a process runs the stage on several numbers of
images in turn, each --repeats times, but those of 20,000 images together at most, and what is quoted is the slope
between two numbers: of the smallest times for images a second, of the medians for CPU seconds.
For `growth` the slope at 1,000 images is that from 100 to 1,000. CPU seconds are those at the speed at which the
processor decoded one photograph during the fastest set. The last line is one JSON object.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")

from inputs.photographs import CLASSES, photographs
from inputs.yardstick import Yardstick

PARTS = ("storage", "input", "memory", "workers", "growth")
BATCH = 64
PHOTOGRAPH, SIDE = (375, 500), 224
SMALL_PHOTOGRAPH, SMALL_SIDE = (150, 200), 96
_FAR = 10_000_000
_MANY = 20_000  # images that are enough for one measurement


def main() -> None:
    """Runs the parts, or one stage as a child process."""
    options = read_options()
    if options.stage:
        print(json.dumps(run_stage(options)))
        return
    found: dict[str, Any] = {"cores": os.cpu_count()}
    measure = {"storage": storage, "input": input_alone, "memory": memory, "workers": workers, "growth": growth}
    for part in options.parts:
        print(f"\n{part}", flush=True)
        found[part] = measure[part](options)
    print(json.dumps(found))


def storage(options: argparse.Namespace) -> dict[str, Any]:
    """Compares stored bytes with the source's, and measures ingestion and reading."""
    data = photographs(options.output, options.images, PHOTOGRAPH)
    source = sum(path.stat().st_size for path in data.rglob("*.jpg"))
    ingested, read = (stage(options, name, data) for name in ("ingest", "read"))
    of_source = round(ingested["bytes"] / source, 3)
    print(f"  stored: {ingested['bytes']:,} bytes, {of_source} of the source's {source:,}; forms {read['forms']}")
    print(f"  raw pixels: {options.images * SIDE * SIDE * 3:,} bytes")
    print(f"  ingestion {rate(ingested):,.0f} images/s, reading {rate(read):,.0f} images/s")
    return {
        "images": options.images,
        "source_bytes": source,
        "stored_bytes": ingested["bytes"],
        "of_source": of_source,
        "forms": read["forms"],
        "ingested_per_second": rate(ingested),
        "read_per_second": rate(read),
        "cpu_ms_per_image": {
            name: round(1000 * run["cpu_seconds"] / run["images"], 2)
            for name, run in (("ingest", ingested), ("read", read))
        },
    }


def input_alone(options: argparse.Namespace) -> dict[str, Any]:
    """Measures the input pipeline of the training."""
    sets = [photographs(options.output, count, PHOTOGRAPH) for count in (options.images // 2, options.images)]
    rows = {}
    for form in ("encoded", "raw"):
        rounds(options, "ingest", sets, 1, storage=form)
        rows[form] = slope(*rounds(options, "epoch", sets, options.repeats, storage=form))
        print(
            f"  {form}: {rows[form]['images_per_second']:,} images/s, {rows[form]['cpu_ms']} ms CPU an image",
            flush=True,
        )
    return rows


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Compares the peak memory of each stage with a tenth of the images and with all."""
    few, many, rows = options.images // 10, options.images, {}
    peaks = {
        count: {name: stage(options, name, data, storage="encoded") for name in options.stages}
        for count in (few, many)
        for data in [photographs(options.output, count, PHOTOGRAPH)]
    }
    for name in options.stages:
        before, after = peaks[few][name], peaks[many][name]
        rows[name] = {
            "peak_bytes": {few: before["peak_bytes"], many: after["peak_bytes"]},
            "ratio": round(after["peak_bytes"] / before["peak_bytes"], 3),
            "start_bytes": after["start_bytes"],
        }
        growth_of = f"{before['peak_bytes']:,} bytes at {few:,} images, {after['peak_bytes']:,} at {many:,}"
        print(f"  {name}: {growth_of}: {rows[name]['ratio']} ({after['start_bytes']:,} before the first image)")
    return rows


def workers(options: argparse.Namespace) -> dict[str, Any]:
    """Measures the throughput of evaluator and teacher by the number of workers."""
    sets = [photographs(options.output, count, SMALL_PHOTOGRAPH) for count in (options.images // 10, options.images)]
    settings: dict[str, Any] = {"storage": "encoded", "side": SMALL_SIDE}
    rows: dict[str, Any] = {}
    rounds(options, "ingest", sets, 1, **settings)
    for name in ("evaluate", "teacher"):
        found = {
            number: slope(*rounds(options, name, sets, options.repeats, workers=number, **settings))
            for number in options.workers
        }
        one = found[options.workers[0]]
        for number, row in found.items():
            row["factor"] = round(row["images_per_second"] / one["images_per_second"], 2)
            row["cpu_of_one"] = round(row["cpu_ms"] / one["cpu_ms"], 2)
            per_image = f"{row['cpu_ms']} ms CPU an image, {row['cpu_of_one']} of the first"
            rate_of = f"{row['images_per_second']:,} images/s, {row['factor']} of the first"
            print(f"  {name}, {number} workers: {rate_of}; {per_image}", flush=True)
        rows[name] = {**found, "load": os.getloadavg()[1]}
    return rows


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Measures the time per image by the number of images."""
    counts, rows = sorted({min(options.counts) // 10, *options.counts}), {}
    sets = [photographs(options.output, count, SMALL_PHOTOGRAPH) for count in counts]
    settings: dict[str, Any] = {"storage": "encoded", "side": SMALL_SIDE}
    for name in options.stages:
        found = rounds(options, name, sets, options.repeats, **settings)
        slopes = [slope(a, b) for a, b in pairwise(found)]
        each = [row["cpu_ms"] for row in slopes]
        rows[name] = {
            "images": [run["images"] for run in found],
            "seconds": [round(run["seconds"], 2) for run in found],
            "cpu_seconds": [round(run["cpu_seconds"], 2) for run in found],
            "cpu_ms_per_image": each,
            "spread": round(max(each) / min(each) - 1, 3),
            "cpu_hours_of_10M": round(each[-1] / 1000 * _FAR / 3600, 1),
        }
        at = ", ".join(f"{value} at {run['images']:,}" for value, run in zip(each, found[1:], strict=True))
        far = f"10M images: {rows[name]['cpu_hours_of_10M']} CPU hours by the last slope"
        print(f"  {name}: ms CPU an image: {at}; spread {rows[name]['spread']}; {far}", flush=True)
    return rows


def slope(few: dict[str, Any], many: dict[str, Any]) -> dict[str, float]:
    """Computes the time of an image from the difference between two runs."""
    images = many["images"] - few["images"]
    return {
        "images_per_second": round(images / max(1e-9, many["seconds"] - few["seconds"]), 1),
        "cpu_ms": round(1000 * (many["cpu_seconds"] - few["cpu_seconds"]) / images, 3),
    }


def stage(options: argparse.Namespace, name: str, data: Path, **settings: Any) -> dict[str, Any]:
    """Runs a stage once in a process of its own; see `run_stage` for the result."""
    return rounds(options, name, [data], 1, **settings)[0]


def rounds(
    options: argparse.Namespace, name: str, sets: list[Path], repeats: int, **settings: Any
) -> list[dict[str, Any]]:
    """Runs a stage on several sets of photographs in one process of its own, and returns the result of each set."""
    command = [sys.executable, __file__, "--output", str(options.output), "--stage", name, f"--repeats={repeats}"]
    command += ["--data", *map(str, sets)]
    for key, value in settings.items():
        command += [f"--{key}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"the stage {name} must end; it failed with status {done.returncode}. Its messages stand above.")
    return json.loads(done.stdout.splitlines()[-1])


def rate(run: dict[str, Any]) -> float:
    """Computes images a second."""
    return round(run["images"] / run["seconds"], 1)


def run_stage(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs one stage on each set of photographs, small ones more often.

    Returns:
        For each set the images, the smallest seconds, the median of the CPU seconds at the speed of the fastest set,
        the peak memory, and what the stage counts.
    """
    from learn2compress.data import batches  # noqa: F401  TensorFlow belongs to the start

    found: dict[Path, list[dict[str, Any]]] = {data: [] for data in options.data}
    for number in range(options.repeats):
        for data, runs in found.items():
            if not runs or number * runs[0]["images"] < _MANY:
                runs.append(_run_once(options, data))
    fastest = min(statistics.median(run["yardstick"] for run in runs) for runs in found.values())
    times = {
        data: {
            "seconds": min(run["seconds"] for run in runs),
            "cpu_seconds": fastest * statistics.median(run["cpu_seconds"] / run["yardstick"] for run in runs),
        }
        for data, runs in found.items()
    }
    return [{**runs[0], **times[data]} for data, runs in found.items()]


def _run_once(options: argparse.Namespace, data: Path) -> dict[str, Any]:
    folder = options.output / "examples" / f"{data.name}-{options.storage}-{options.side}"
    run = STAGES[options.stage](options, data, folder)
    start, began, cpu = peak_bytes(), time.perf_counter(), cpu_seconds()
    with Yardstick() as yardstick:
        counted = run()
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": cpu_seconds() - cpu - sum(yardstick.seconds),
        "yardstick": statistics.mean(yardstick.seconds),
        "peak_bytes": peak_bytes(),
        "start_bytes": start,
        **counted,
    }


def ingest_stage(options: argparse.Namespace, data: Path, folder: Path) -> Callable[[], dict[str, Any]]:
    """Prepares the ingestion of the photographs."""
    import shutil

    from learn2compress.components.beam.ingestion import ingest
    from learn2compress.data.example_records import SPLITS, make_plan
    from learn2compress.data.sources.formats import open_source, resolve_task
    from learn2compress.schemas.config import DataConfig
    from learn2compress.schemas.manifests import DataManifest, write_manifest

    shutil.rmtree(folder, ignore_errors=True)
    config = DataConfig(path=str(data), height=options.side, width=options.side, channels=3, storage=options.storage)

    def run() -> dict[str, Any]:
        source = open_source(config)
        task = resolve_task(config, source)
        spill = folder / ".spill"
        plan = make_plan(config, source, task, str(folder), str(spill))
        report = ingest(job(options.workers[0]), source.pieces, plan)
        shutil.rmtree(spill)
        nothing: dict[str, Any] = {"duplicates": {}, "duplicate_examples": [], "skipped": [], "skipped_count": 0}
        counts = {split: sum(report["examples"][split].values()) for split in SPLITS}
        manifest = DataManifest(
            task=task,
            digest="",
            counts=counts,
            per_class={split: [] for split in SPLITS},
            shards={split: [plan.shard_name(split, i) for i in range(plan.shards[split])] for split in SPLITS},
            **nothing,
            storage=plan.storage,
        )
        write_manifest(folder, manifest)
        return {"images": sum(counts.values()), "bytes": sum(path.stat().st_size for path in folder.rglob("*.gz"))}

    return run


def read_stage(options: argparse.Namespace, data: Path, folder: Path) -> Callable[[], dict[str, Any]]:  # noqa: ARG001
    """Prepares reading all examples in batches; also counts how they are stored."""
    from learn2compress.data.batches import iter_numpy, read_examples

    manifest = manifest_of(folder)

    def run() -> dict[str, Any]:
        splits = (iter_numpy(read_examples(folder, split, BATCH)) for split in manifest.shards)
        images = sum(len(batch["id"]) for batches in splits for batch in batches)
        return {"images": images, "forms": _forms(folder, manifest.task)}

    return run


def _forms(folder: Path, task: Any) -> dict[str, int]:
    """Counts how the examples of some shards are stored."""
    from learn2compress.data.stored_examples import read_shard

    forms: dict[str, int] = {}
    for path in sorted(folder.rglob("data_tfrecord*"))[:20]:
        for example in read_shard(path, task):
            form = {b"\xff\xd8\xff": "jpeg", b"RIF": "webp"}.get(example.encoded[:3], "raw")
            forms[form] = forms.get(form, 0) + 1
    return forms


def epoch_stage(options: argparse.Namespace, data: Path, folder: Path) -> Callable[[], dict[str, Any]]:  # noqa: ARG001
    """Prepares one epoch of the training's input: shuffled batches of 64 in views."""
    from learn2compress.compression.training.training_data import TrainingData, shuffle_buffer
    from learn2compress.modalities import modality_of
    from learn2compress.schemas.config import TeacherImportConfig

    manifest = manifest_of(folder)
    recipe = modality_of(manifest.task).views(manifest.task).recipe(TeacherImportConfig(path=""), 0, True)
    count = manifest.counts["train"]
    buffer = shuffle_buffer(count, modality_of(manifest.task).records(manifest.task).example_bytes)
    steps = count // BATCH
    batches = TrainingData(manifest.task, folder, folder, BATCH, steps, CLASSES, recipe, 0, buffer, live=True)

    def run() -> dict[str, Any]:
        return {"images": sum(len(labels) for _, labels, _ in batches.epoch(0))}

    return run


def teacher_stage(options: argparse.Namespace, data: Path, folder: Path) -> Callable[[], dict[str, Any]]:  # noqa: ARG001
    """Prepares inference of a small convolutional teacher on one view of each example."""
    from learn2compress.components.beam.teacher_inference import run_teacher_inference
    from learn2compress.modalities import modality_of
    from learn2compress.schemas.config import TeacherImportConfig

    manifest = manifest_of(folder)
    path = options.output / f"teacher-{options.side}.keras"
    if not path.exists():
        network(options.side).save(path)
    config = TeacherImportConfig(path=str(path), scaling="unit")
    kind = modality_of(manifest.task).views(manifest.task)
    recipe = kind.recipe(config, 0, True).model_copy(update={"count": 1})

    def run() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=options.output) as output:
            pipeline = job(options.workers[0])
            counts = run_teacher_inference(pipeline, config, manifest, str(folder), output, recipe)
        return {"images": sum(count.images for count in counts.values())}

    return run


def evaluate_stage(options: argparse.Namespace, data: Path, folder: Path) -> Callable[[], dict[str, Any]]:  # noqa: ARG001
    """Prepares running a .tflite file on each example."""
    import tensorflow as tf

    from learn2compress.components.beam.evaluation import ModelToRun, Shard, run_models

    manifest = manifest_of(folder)
    path = options.output / f"model-{options.side}.tflite"
    if not path.exists():
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(network(options.side)).convert())
    models = [ModelToRun("model", str(path), hashlib.sha256(path.read_bytes()).hexdigest())]
    places = sorted(folder.rglob("data_tfrecord*"))
    shards = [Shard("test", order, str(place), None) for order, place in enumerate(places)]

    def run() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=options.output) as output:
            pipeline = job(options.workers[0])
            tallies = run_models(pipeline, shards, models, manifest.task, Path(output))
        return {"images": sum(len(tally.ids) for tally in tallies.values())}

    return run


STAGES: dict[str, Callable[[argparse.Namespace, Path, Path], Callable[[], dict[str, Any]]]] = {
    "ingest": ingest_stage,
    "read": read_stage,
    "epoch": epoch_stage,
    "teacher": teacher_stage,
    "evaluate": evaluate_stage,
}


def manifest_of(folder: Path) -> Any:
    """Reads the manifest that `ingest` wrote."""
    from learn2compress.schemas.manifests import DataManifest, read_manifest

    return read_manifest(folder, DataManifest)


def job(number: int) -> Any:
    """Makes a Beam pipeline of a number of workers on this machine."""
    import apache_beam as beam

    from learn2compress.components.beam.options import direct_runner_args

    return beam.Pipeline(argv=direct_runner_args(number))


def network(side: int) -> Any:
    """Builds a small convolutional classifier."""
    import tf_keras as keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((side, side, 3))
    x = image
    for channels, stride in ((16, 2), (32, 2), (48, 1), (64, 2), (96, 2)):
        x = layers.Conv2D(channels, 3, stride, padding="same", activation="relu")(x)
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def cpu_seconds() -> float:
    """Returns the processor time of this process and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_bytes() -> int:
    """Returns the peak memory of this process or of the largest of its ended children."""
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def read_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, nargs="+", default=None)
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each number of images, at most")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="of memory and growth")
    # What a stage in a process of its own is given.
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--storage", default="auto", help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, default=SIDE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.workers = options.workers or ([1] if options.stage else [1, 2, 4])
    options.output.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    main()
