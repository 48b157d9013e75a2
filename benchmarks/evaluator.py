# SPDX-License-Identifier: Apache-2.0
"""Images a second of TFLiteEvaluator's Beam pipeline against a plain loop over one interpreter.

    python benchmarks/evaluator.py --model MODEL.tflite --data DATA.npz [--workers 2]

All run the same file on the same test images in one run, the loops first, while no worker is there. The loop is the one
everybody writes: one thread, one interpreter, an image at a time. It reads the images from the shards, as the pipeline
must; what it would do with all images in memory already is printed beside it. All go over the images four times, for
once takes less than a second. Workers do not come up together: each one's rate counts from when it begins on its first
image to when it is done with its last, opening the file included, and the pipeline's rate is their sum. Printed beside
it is the start-up: how long after the call the last one began. Predictions must be identical. The last line is one JSON
object.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import apache_beam as beam
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from apache_beam.options.pipeline_options import PipelineOptions

from learn2compress.components.beam.evaluation import ModelToRun, Piece, RunModel, WriteTally, read_tally
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.data.stored_examples import read_shard
from learn2compress.schemas.manifests import Task
from learn2compress.tflite.interpreter import open_model

SHARDS = 8  # as many as ImageExampleGen makes of 10,000 images
PASSES = 4


class Timed(RunModel):
    """Notes when each piece was begun and done."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(self, piece: Piece) -> Iterator[Any]:
        began = time.time()
        found = list(super().process(piece))
        note = f"{began} {time.time()} {os.getpid()} {len(found[0][1][1].ids)}"
        Path(self.folder, f"{piece.model.name}-{piece.order}.time").write_text(note)
        yield from found


def write_shards(folder: Path, images: np.ndarray, labels: np.ndarray) -> list[Path]:
    """Writes the images as ImageExampleGen does."""
    import tensorflow as tf

    from learn2compress.data.example_records import open_shard

    def feature(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    paths = []
    for shard, rows in enumerate(np.array_split(np.arange(len(images)), SHARDS)):
        paths.append(folder / f"data_tfrecord-{shard:05d}-of-{SHARDS:05d}.gz")
        with open_shard(paths[-1]) as writer:
            for row in rows:
                pixels = images[row].tobytes()
                features = {
                    "image": feature(pixels),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[labels[row]])),
                    "id": feature(hashlib.sha256(pixels).hexdigest()[:16].encode()),
                    "source": feature(f"test {row}".encode()),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return paths


def read_images(shards: list[Path], task: Task) -> Iterator[np.ndarray]:
    return (example.content for shard in shards for example in read_shard(shard, task))


def plain_loop(model: bytes, images: Callable[[], Iterable[np.ndarray]]) -> tuple[np.ndarray, float]:
    """Predicts image by image; returns the classes and the images a second."""
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


def by_beam(
    model: Path, shards: list[Path], folder: Path, workers: int, task: Task
) -> tuple[list[np.ndarray], float, float]:
    """Returns the classes of each pass, the seconds of start-up and the images a second."""
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    passes = [ModelToRun(f"pass {i}", str(model), sha256) for i in range(PASSES)]
    pieces = [Piece("test", i, str(path), None, to_run, task) for to_run in passes for i, path in enumerate(shards)]
    began = time.time()
    with beam.Pipeline(options=PipelineOptions(direct_runner_args(workers))) as pipeline:
        _ = (
            pipeline
            | beam.Create(pieces, reshuffle=False)
            | beam.Reshuffle()
            | beam.ParDo(Timed(str(folder)))
            | beam.GroupByKey()
            | beam.ParDo(WriteTally(str(folder)))
        )
    spans: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for path in folder.glob("*.time"):
        start, stop, worker, count = path.read_text().split()
        spans[worker].append((float(start), float(stop), int(count)))
    rate = 0.0
    for found in spans.values():
        images = sum(count for _, _, count in found)
        seconds = max(stop for _, stop, _ in found) - min(start for start, _, _ in found)
        print(f"  a worker: {images:,} images in {seconds:.2f} s")
        rate += images / seconds
    up = max(min(start for start, _, _ in found) for found in spans.values())
    return [read_tally(folder, "test", to_run.name).classes for to_run in passes], up - began, rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help=".npz with test_images and test_labels")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with np.load(options.data) as data:
        images, labels = data["test_images"], data["test_labels"].ravel().astype(int)
    classes = open_model(options.model).classes
    task = Task(input_shape=images.shape[1:], classes=[str(i) for i in range(classes)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write_shards(folder, images, labels)
        model = options.model.read_bytes()
        alone, plain = plain_loop(model, lambda: read_images(shards, task))
        _, in_memory = plain_loop(model, lambda: images)
        print(f"{options.model.name}, {len(images):,} images, accuracy {np.mean(alone == labels):.4f}")
        print(f"plain loop, 1 thread:         {plain:8,.0f} images/s")
        print(f"  with all images in memory:  {in_memory:8,.0f} images/s")
        passes, start, rate = by_beam(options.model, shards, folder, options.workers, task)
    identical = all(np.array_equal(alone, classes) for classes in passes)
    print(f"evaluator, {options.workers} workers:         {rate:8,.0f} images/s; up after {start:.1f} s")
    print(f"factor {rate / plain:.2f} ({rate / in_memory:.2f} of memory); predictions identical: {identical}")
    figures = {
        "factor": round(rate / plain, 3),
        "factor_of_memory": round(rate / in_memory, 3),
        "workers": options.workers,
        "identical": identical,
        "images_per_second": round(rate),
        "start_up_s": round(start, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
