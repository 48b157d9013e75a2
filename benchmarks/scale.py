# SPDX-License-Identifier: Apache-2.0
"""Measures how stored bytes, memory and time grow with the number of photographs, and what further workers give.

    python benchmarks/scale.py --output FOLDER [--parts storage input memory workers growth]
        [--images 5000] [--counts 1000 10000 100000] [--workers 1 2 4]

The photographs are generated: crops of textures whose power falls with their frequency as that of natural images does,
with edges, encoded as JPEG of 500 x 375 pixels in qualities from 75 to 95; FOLDER keeps them for the next time. They
are the same in each run. Each stage runs in a process of its own, by the code of the product: `ingest` (of
ImageExampleGen), `read` (batches of 64, about those of TeacherImporter), `epoch` (the training's input alone,
with views and shuffling), `teacher` (TeacherImporter), `evaluate` (TFLiteEvaluator). The parts:

    storage   bytes of the stored examples relative to those of the source, and images a second of ingestion and reading
    input     images a second of the training's input pipeline alone, encoded and raw
    memory    peak memory of each stage with --images / 10 and with --images
    workers   images a second of evaluator and teacher by the number of workers, without the start of the workers: from
              the difference between a run of half of the images and one of all of them
    growth    seconds per image by the number of images (photographs of 200 x 150, stored with 96 x 96), and the time of
              10,000,000 images by the last slope

CPU seconds, unlike seconds, depend little on other load. The last line is one JSON object.
"""

import argparse
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
from PIL import Image

PARTS = ("storage", "input", "memory", "workers", "growth")
CLASSES, BATCH = 10, 64
PHOTOGRAPH, SIDE = (375, 500), 224
SMALL_PHOTOGRAPH, SMALL_SIDE = (150, 200), 96
_TEXTURES, _TEXTURE_SIDE = 24, 1024
_FAR = 10_000_000


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
    data, rows = photographs(options.output, options.images, PHOTOGRAPH), {}
    for form in ("encoded", "raw"):
        stage(options, "ingest", data, storage=form)
        rows[form] = rate(stage(options, "epoch", data, storage=form))
        print(f"  {form}: {rows[form]:,.0f} images/s")
    return rows


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Compares the peak memory of each stage with a tenth of the images and with all."""
    data, rows = photographs(options.output, options.images, PHOTOGRAPH), {}
    few, many = options.images // 10, options.images
    peaks = {n: {name: stage(options, name, data, limit=n, storage="encoded") for name in STAGES} for n in (few, many)}
    for name in STAGES:
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
    data, rows = photographs(options.output, options.images, PHOTOGRAPH), {}
    for count in (options.images // 2, options.images):
        stage(options, "ingest", data, limit=count, storage="encoded")
    for name in ("evaluate", "teacher"):
        rates = {}
        for number in options.workers:
            less, more = (
                stage(options, name, data, limit=count, storage="encoded", workers=number)
                for count in (options.images // 2, options.images)
            )
            rates[number] = (more["images"] - less["images"]) / max(1e-9, more["seconds"] - less["seconds"])
        factors = {number: round(found / rates[options.workers[0]], 2) for number, found in rates.items()}
        rounded = {number: round(found, 1) for number, found in rates.items()}
        rows[name] = {"images_per_second": rounded, "factors": factors}
        for number, found in rates.items():
            print(f"  {name}, {number} workers: {found:,.0f} images/s, {factors[number]:.2f}")
    return rows


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Measures the time per image by the number of images."""
    data, rows = photographs(options.output, max(options.counts), SMALL_PHOTOGRAPH), {}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in STAGES}
    for count in options.counts:
        for name in STAGES:
            runs[name].append(stage(options, name, data, limit=count, storage="encoded", side=SMALL_SIDE))
    for name, found in runs.items():
        each = [run["cpu_seconds"] / run["images"] for run in found]
        slopes = [
            (b["cpu_seconds"] - a["cpu_seconds"]) / (b["images"] - a["images"]) for a, b in pairwise(found)
        ] or each
        rows[name] = {
            "images": [run["images"] for run in found],
            "seconds": [round(run["seconds"], 2) for run in found],
            "cpu_ms_per_image": [round(1000 * value, 3) for value in each],
            "slopes_ms": [round(1000 * slope, 3) for slope in slopes],
            "spread": round(max(each) / min(each) - 1, 3),
            "cpu_hours_of_10M": round(slopes[-1] * _FAR / 3600, 1),
        }
        far = f"10M images: {rows[name]['cpu_hours_of_10M']} CPU hours by the last slope"
        print(f"  {name}: {rows[name]['cpu_ms_per_image']} ms CPU per image at {rows[name]['images']}; {far}")
    return rows


def stage(options: argparse.Namespace, name: str, data: Path, **settings: Any) -> dict[str, Any]:
    """Runs a stage in a process of its own; see `run_stage` for the result."""
    command = [sys.executable, __file__, "--output", str(options.output), "--stage", name, "--data", str(data)]
    for key, value in settings.items():
        command += [f"--{key}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"the stage {name} must end; it failed with status {done.returncode}. Its messages stand above.")
    return json.loads(done.stdout.splitlines()[-1])


def rate(run: dict[str, Any]) -> float:
    """Computes images a second."""
    return round(run["images"] / run["seconds"], 1)


def run_stage(options: argparse.Namespace) -> dict[str, Any]:
    """Runs one stage; returns images, seconds, CPU seconds, peak memory, and what the stage itself counts."""
    from learn2compress.data import batches  # noqa: F401  TensorFlow belongs to the start

    name = f"{options.data.name}-{options.limit or 'all'}-{options.storage}-{options.side}"
    folder = options.output / "examples" / name
    run = STAGES[options.stage](options, folder)
    start, began, cpu = peak_bytes(), time.perf_counter(), cpu_seconds()
    counted = run()
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": cpu_seconds() - cpu,
        "peak_bytes": peak_bytes(),
        "start_bytes": start,
        **counted,
    }


def ingest_stage(options: argparse.Namespace, folder: Path) -> Callable[[], dict[str, Any]]:
    """Prepares the ingestion of the photographs."""
    import shutil

    from learn2compress.components.beam.ingestion import ingest
    from learn2compress.data.example_records import SPLITS, make_plan
    from learn2compress.data.sources.formats import open_source, resolve_task
    from learn2compress.schemas.config import DataConfig
    from learn2compress.schemas.manifests import DataManifest, write_manifest

    shutil.rmtree(folder, ignore_errors=True)
    config = DataConfig(
        path=str(options.data), height=options.side, width=options.side, channels=3, storage=options.storage
    )

    def run() -> dict[str, Any]:
        source = open_source(config, options.limit)
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


def read_stage(options: argparse.Namespace, folder: Path) -> Callable[[], dict[str, Any]]:  # noqa: ARG001
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


def epoch_stage(options: argparse.Namespace, folder: Path) -> Callable[[], dict[str, Any]]:  # noqa: ARG001
    """Prepares one epoch of the training's input: shuffled batches of 64 in views."""
    from learn2compress.compression.training.training_data import TrainingData, shuffle_buffer
    from learn2compress.modalities import modality_of
    from learn2compress.schemas.config import TeacherImportConfig

    manifest = manifest_of(folder)
    recipe = modality_of(manifest.task).views(manifest.task).recipe(TeacherImportConfig(path=""), 0, True)
    count = manifest.counts["train"]
    buffer = shuffle_buffer(count, modality_of(manifest.task).records(manifest.task).example_bytes)
    data = TrainingData(manifest.task, folder, folder, BATCH, count // BATCH, CLASSES, recipe, 0, buffer, live=True)

    def run() -> dict[str, Any]:
        return {"images": sum(len(labels) for _, labels, _ in data.epoch(0))}

    return run


def teacher_stage(options: argparse.Namespace, folder: Path) -> Callable[[], dict[str, Any]]:
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


def evaluate_stage(options: argparse.Namespace, folder: Path) -> Callable[[], dict[str, Any]]:
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


STAGES: dict[str, Callable[[argparse.Namespace, Path], Callable[[], dict[str, Any]]]] = {
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


def photographs(output: Path, count: int, size: tuple[int, int]) -> Path:
    """Generates photographs in a folder for each class, unless they are there."""
    height, width = size
    folder = output / f"photographs-{width}x{height}-{count}"
    done = folder.with_suffix(".done")
    if not done.exists():
        for label in range(CLASSES):
            (folder / f"class_{label}").mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (folder / f"class_{index % CLASSES}" / f"{index:07d}.jpg").write_bytes(photograph(index, height, width))
        done.touch()
    return folder


def photograph(index: int, height: int, width: int) -> bytes:
    """Generates a photograph: a crop of a texture, in part another one behind an edge, with colours and contrast."""
    rng = np.random.default_rng([20, index])
    pixels = _crop(rng, height, width)
    y, x = np.ogrid[0:height, 0:width]
    angle, top, left = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8) * height, rng.uniform(0.2, 0.8) * width
    behind = (x - left) * np.cos(angle) + (y - top) * np.sin(angle) > 0
    pixels[behind] = _crop(rng, height, width)[behind]
    stream = io.BytesIO()
    quality = int(rng.integers(75, 96))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _crop(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    texture = _texture(int(rng.integers(_TEXTURES)))
    top, left = int(rng.integers(_TEXTURE_SIDE - height)), int(rng.integers(_TEXTURE_SIDE - width))
    crop = texture[top : top + height, left : left + width]
    crop = crop[:, ::-1] if rng.integers(2) else crop
    colours = rng.uniform(25, 60) * rng.dirichlet(np.full(3, 4), 3).T
    return crop @ colours.astype(np.float32) + rng.uniform(60, 190, 3).astype(np.float32)


@cache
def _texture(number: int) -> np.ndarray:
    """Generates a texture whose amplitudes fall with a power of the frequency, [side, side, 3] float32."""
    rng = np.random.default_rng([21, number])
    side = _TEXTURE_SIDE
    frequency = np.hypot(np.fft.fftfreq(side)[:, None] * side, np.fft.rfftfreq(side)[None] * side)
    frequency[0, 0] = 1
    shape = (3, *frequency.shape)
    spectrum = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / frequency ** rng.uniform(1.1, 1.6)
    spectrum[1:] += 2 * spectrum[0]  # the colours are correlated
    texture = np.fft.irfft2(spectrum, (side, side)).transpose(1, 2, 0)
    return ((texture - texture.mean((0, 1))) / texture.std((0, 1))).astype(np.float32)


def read_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, nargs="+", default=None)
    # Of a stage in a process of its own.
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--storage", default="auto", help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, default=SIDE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.workers = options.workers or ([1] if options.stage else [1, 2, 4])
    options.output.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    main()
