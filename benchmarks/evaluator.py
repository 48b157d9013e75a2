# SPDX-License-Identifier: Apache-2.0
"""Measures the throughput of TFLiteEvaluator's Beam pipeline against a plain loop, for one and for many files.

    python benchmarks/evaluator.py --model MODEL.tflite --data DATA.npz [--workers 2]
    python benchmarks/evaluator.py --model MODEL.tflite [--model OTHER.tflite] --data DATA.npz --files 12

All variants run the same file on the same test images in one process; the loops run first, before the workers start.
The plain loop uses one thread and one interpreter, and processes one image at a time. Like the pipeline, it reads the
images from the shards; its throughput with all images in memory is also printed. All variants process the images four
times, since one pass takes less than a second. Workers do not start at the same time: the rate of each is measured from
its first image to its last, including opening the file, and the rate of the pipeline is the sum. The start-up time is
the time until the last worker has started. Predictions must be identical.

With --files the pipeline runs that many files at once, copies of the given ones with bytes appended: with a shard and
one file as the unit of work, so that a shard is parsed once for each file, and with a shard and all files, as in the
evaluator. The two alternate --repeats times with the same number of workers. The printed ratio is that of the medians
of images x files per second; the ratio of processor times is less affected by other load on the machine. The last line
is one JSON object.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import apache_beam as beam
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from apache_beam.options.pipeline_options import PipelineOptions

from learn2compress.components.beam.evaluation import (
    PIECES_A_WORKER,
    ModelToRun,
    Piece,
    RunModels,
    Shard,
    WriteTally,
    cut_pieces,
    read_tally,
)
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.data.stored_examples import read_shard
from learn2compress.evaluation.measure import Tally
from learn2compress.schemas.manifests import Task
from learn2compress.tflite.interpreter import open_model

SHARDS = 8  # as many as ImageExampleGen makes of 10,000 images
PASSES = 4


class Timed(RunModels):
    """Records the start, the end and the processor time of each piece."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(self, piece: Piece) -> Iterator[Any]:
        began, worked = time.time(), time.thread_time()
        found = list(super().process(piece))
        images = sum(len(tally.ids) for _, (_, tally) in found)
        note = f"{began} {time.time()} {os.getpid()} {images} {time.thread_time() - worked}"
        Path(self.folder, f"{piece.models[0].name}-{piece.shard.order}.time").write_text(note)
        yield from found


def write_shards(folder: Path, images: np.ndarray, labels: np.ndarray, classes: int) -> list[Shard]:
    """Writes shards of images as ImageExampleGen does, and shards of random logits as TeacherImporter does."""
    import tensorflow as tf

    from learn2compress.data.example_records import open_shard

    def pack(**fields: bytes | int) -> bytes:
        features = {}
        for key, value in fields.items():
            if isinstance(value, int):
                features[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
            else:
                features[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    shards = []
    logits = np.random.default_rng(0).normal(size=(len(images), classes)).astype(np.float16)
    for order, rows in enumerate(np.array_split(np.arange(len(images)), SHARDS)):
        name = f"-{order:05d}-of-{SHARDS:05d}.gz"
        shards.append(Shard("test", order, str(folder / f"data_tfrecord{name}"), str(folder / f"logits{name}")))
        with open_shard(Path(shards[-1].examples)) as examples, open_shard(Path(shards[-1].logits)) as beside:
            for row in rows:
                pixels = images[row].tobytes()
                key = hashlib.sha256(pixels).hexdigest()[:16].encode()
                examples.write(pack(image=pixels, label=int(labels[row]), id=key, source=f"test {row}".encode()))
                beside.write(pack(id=key, logits=logits[row].tobytes(), views=np.zeros(3, np.int16).tobytes()))
    return shards


def read_images(shards: Sequence[Shard], task: Task) -> Iterator[np.ndarray]:
    return (example.content for shard in shards for example in read_shard(shard.examples, task))


def plain_loop(model: bytes, images: Callable[[], Iterable[np.ndarray]]) -> tuple[np.ndarray, float]:
    """Predicts one image at a time; returns the classes and the images per second."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    entry, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    offset = 128 if entry["dtype"] == np.int8 else 0
    classes = []
    began = time.perf_counter()
    for _ in range(PASSES):
        for image in images():
            interpreter.set_tensor(entry["index"], (image[None].astype(np.int16) - offset).astype(entry["dtype"]))
            interpreter.invoke()
            classes.append(np.argmax(interpreter.get_tensor(out["index"])[0]))
    rate = len(classes) / (time.perf_counter() - began)
    return np.array(classes[: len(classes) // PASSES]), rate


class Run(NamedTuple):
    """Measurements of a pipeline."""

    rate: float  # images x files per second
    busy: float  # total processor time in seconds
    start_up: float  # seconds until the last worker has started
    tallies: dict[str, Tally]  # by file


def by_beam(pieces: Sequence[Piece], folder: Path, workers: int) -> Run:
    """Runs the evaluator's pipeline on pieces of one split."""
    folder.mkdir()
    began = time.time()
    with beam.Pipeline(options=PipelineOptions(direct_runner_args(workers))) as pipeline:
        _ = (
            pipeline
            | beam.Create(list(pieces), reshuffle=False)
            | beam.Reshuffle()
            | beam.ParDo(Timed(str(folder)))
            | beam.GroupByKey()
            | beam.ParDo(WriteTally(str(folder)))
        )
    spans: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    busy = 0.0
    for path in folder.glob("*.time"):
        start, stop, worker, count, worked = path.read_text().split()
        busy += float(worked)
        spans[worker].append((float(start), float(stop), int(count)))
    rate = 0.0
    for found in spans.values():
        images = sum(count for _, _, count in found)
        seconds = max(stop for _, stop, _ in found) - min(start for start, _, _ in found)
        print(f"  worker: {images:,} images in {seconds:.2f} s")
        rate += images / seconds
    up = max(min(start for start, _, _ in found) for found in spans.values())
    names = dict.fromkeys(model.name for piece in pieces for model in piece.models)
    return Run(rate, busy, up - began, {name: read_tally(folder, "test", name) for name in names})


def one_file(model: Path, shards: Sequence[Shard], folder: Path, task: Task, images: np.ndarray, workers: int) -> dict:
    """Compares the pipeline with a plain loop."""
    data = model.read_bytes()
    alone, plain = plain_loop(data, lambda: read_images(shards, task))
    _, in_memory = plain_loop(data, lambda: images)
    print(f"plain loop, 1 thread:         {plain:8,.0f} images/s")
    print(f"  with all images in memory:  {in_memory:8,.0f} images/s")
    passes = [ModelToRun(f"pass {i}", str(model), hashlib.sha256(data).hexdigest()) for i in range(PASSES)]
    alone_shards = [replace(shard, logits=None) for shard in shards]  # the plain loop reads no logits either
    run = by_beam(cut_pieces(alone_shards, passes, task, len(shards) * PASSES), folder / "run", workers)
    identical = all(np.array_equal(alone, tally.classes) for tally in run.tallies.values())
    print(f"evaluator, {workers} workers:         {run.rate:8,.0f} images/s; started after {run.start_up:.1f} s")
    print(f"factor {run.rate / plain:.2f} ({run.rate / in_memory:.2f} in memory); predictions identical: {identical}")
    return {
        "factor": round(run.rate / plain, 3),
        "factor_of_memory": round(run.rate / in_memory, 3),
        "identical": identical,
        "images_per_second": round(run.rate),
        "start_up_s": round(run.start_up, 1),
    }


def many_files(
    given: Sequence[Path], files: int, shards: Sequence[Shard], folder: Path, task: Task, workers: int, repeats: int
) -> dict:
    """Compares a shard with all files as the unit of work with a shard and one file."""
    models = []
    for number in range(files):
        data = given[number % len(given)].read_bytes() + bytes(number // len(given))
        path = folder / f"{number}.tflite"
        path.write_bytes(data)
        models.append(ModelToRun(f"file {number}", str(path), hashlib.sha256(data).hexdigest()))
    least = {"shard x file": len(shards) * files, "shard with all files": PIECES_A_WORKER * workers}
    runs: dict[str, list[Run]] = {way: [] for way in least}
    for repeat in range(repeats):
        for way, pieces in least.items():
            print(f"{way}:")
            run = by_beam(cut_pieces(shards, models, task, pieces), folder / f"{way} {repeat}", workers)
            print(f"  {run.rate:,.0f} images x files/s; started after {run.start_up:.1f} s")
            runs[way].append(run)
    first, *others = [run.tallies for found in runs.values() for run in found]
    identical = all(same_tally(first[name], other[name]) for other in others for name in first)
    rates = {way: [run.rate for run in found] for way, found in runs.items()}
    former, now = (float(np.median(found)) for found in rates.values())
    by_processor = np.divide(*[np.median([run.busy for run in found]) for found in runs.values()])
    ratios = sorted(b / a for a, b in zip(*rates.values(), strict=True))
    print(f"{files} files, {workers} workers: {former:,.0f} -> {now:,.0f} images x files/s, ratio {now / former:.2f}")
    print(f"  repeat by repeat {ratios[0]:.2f} to {ratios[-1]:.2f}, by processor time {by_processor:.2f}")
    print(f"  predictions identical: {identical}")
    return {
        "files": files,
        "ratio": round(now / former, 3),
        "ratio_of_processor_time": round(float(by_processor), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "identical": identical,
        "images_files_per_second": round(now),
        "former_images_files_per_second": round(former),
    }


def same_tally(first: Tally, second: Tally) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, action="append", help="may be given several times")
    parser.add_argument("--data", type=Path, required=True, help=".npz with test_images and test_labels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--files", type=int, default=1, help="files to run at once; above 1 compares the units of work")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of that comparison")
    options = parser.parse_args()
    with np.load(options.data) as data:
        images, labels = data["test_images"], data["test_labels"].ravel().astype(int)
    classes = open_model(options.model[0]).classes
    task = Task(input_shape=images.shape[1:], classes=[str(i) for i in range(classes)])
    files = max(options.files, len(options.model))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write_shards(folder, images, labels, classes)
        print(f"{', '.join(model.name for model in options.model)}, {len(images):,} images")
        if files == 1:
            figures = one_file(options.model[0], shards, folder, task, images, options.workers)
        else:
            figures = many_files(options.model, files, shards, folder, task, options.workers, options.repeats)
    print(json.dumps({**figures, "workers": options.workers}))


if __name__ == "__main__":
    main()
