# SPDX-License-Identifier: Apache-2.0
"""Images a second of TFLiteEvaluator's Beam pipeline against a plain loop over one interpreter.

    python benchmarks/evaluator.py --model MODEL.tflite --data DATA.npz [--workers 2]

Both run the same file on the same test images in one run, the loop first, while no worker is there. The loop is the
one everybody writes: one thread, one image at a time, images already in memory. The pipeline reads its images from
gzipped shards. Its rate is counted from the moment the first worker begins on its first image to that when the last
one is done; the start-up before that is printed beside it. Predictions must be identical.
"""

import argparse
import hashlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import apache_beam as beam
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from apache_beam.options.pipeline_options import PipelineOptions

from learn2compress.components.beam_options import direct_runner_args
from learn2compress.components.evaluation_pipeline import ModelToRun, Piece, RunModel, WriteTally, read_tally
from learn2compress.compression.interpreter import open_model
from learn2compress.schemas.manifests import Task

SHARDS = 8                   # as many as ImageExampleGen makes of 10,000 images


class Timed(RunModel):
    """Notes when each piece was begun and done."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(self, piece: Piece) -> Iterator[Any]:
        began = time.time()
        yield from super().process(piece)
        Path(self.folder, f"{piece.order}.time").write_text(f"{began} {time.time()} {os.getpid()}")


def write_shards(folder: Path, images: np.ndarray, labels: np.ndarray) -> list[Path]:
    """Writes the images as ImageExampleGen does."""
    import tensorflow as tf

    def feature(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    paths = []
    for shard, rows in enumerate(np.array_split(np.arange(len(images)), SHARDS)):
        paths.append(folder / f"data_tfrecord-{shard:05d}-of-{SHARDS:05d}.gz")
        with tf.io.TFRecordWriter(str(paths[-1]), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
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


def plain_loop(model: bytes, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Predicts image by image; returns the classes and the seconds."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    entry, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if entry["dtype"] == np.int8:
        images = (images.astype(np.int16) - 128).astype(np.int8)
    images = images.astype(entry["dtype"])
    classes = np.empty(len(images), np.int64)
    began = time.perf_counter()
    for i in range(len(images)):
        interpreter.set_tensor(entry["index"], images[i : i + 1])
        interpreter.invoke()
        classes[i] = np.argmax(interpreter.get_tensor(out["index"])[0])
    return classes, time.perf_counter() - began


def by_beam(
    model: Path, shards: list[Path], folder: Path, workers: int, task: Task
) -> tuple[np.ndarray, float, float]:
    """Returns the classes, the seconds of start-up and those of work."""
    to_run = ModelToRun("model", str(model), hashlib.sha256(model.read_bytes()).hexdigest())
    pieces = [Piece("test", order, str(path), None, to_run, task) for order, path in enumerate(shards)]
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
    times = np.array([path.read_text().split() for path in folder.glob("*.time")], float)
    shares = Counter(times[:, 2]).values()
    print(f"  {len(shares)} worker processes took {' and '.join(map(str, shares))} shards")
    first, last = times[:, 0].min(), times[:, 1].max()
    return read_tally(folder, "test", "model").classes, first - began, last - first


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
        alone, seconds = plain_loop(options.model.read_bytes(), images)
        print(f"{options.model.name}, {len(images):,} images, accuracy {np.mean(alone == labels):.4f}")
        print(f"plain loop, 1 thread:   {len(images) / seconds:8,.0f} images/s ({seconds:.1f} s)")
        together, start, work = by_beam(options.model, shards, folder, options.workers, task)
    print(f"evaluator, {options.workers} workers:   {len(images) / work:8,.0f} images/s ({work:.1f} s)")
    print(f"start-up of the workers: {start:.1f} s")
    print(f"factor: {seconds / work:.2f}; predictions identical: {np.array_equal(alone, together)}")


if __name__ == "__main__":
    main()
