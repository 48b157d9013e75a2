# SPDX-License-Identifier: Apache-2.0
"""Removes channels of a user's own ResNet-56 until its MACs are divided by 2.1, and quantizes the result to int8.

    python benchmarks/resnet56.py --data cifar10.npz --teacher resnet56_cifar10.h5 [--epochs 20] [--quantize-epochs 3] \
        [--macs 0.476] [--bytes 0.5] [--views 8] [--unmixed] [--seed 0] [--steps N] [--output FOLDER] [--peer PYTHON]

The teacher is pruned itself: channel groups from its graph, importance by the Taylor criterion with the distillation
loss, sensitivity of the groups on validation images, fine-tuning with the logits of the unpruned network, then training
for 8 bits. The unpruned network was trained on the same images and knows them by heart; every second view is therefore
a mix of two images, for which it does not know the answer (mixup and function matching, 1710.09412 and 2106.05237).
Epochs are chosen on 5,000 images that are split off the training part; the test images are used once, for
the .tflite files. Since the network knows the 5,000 as well, settings such as `--learning-rate` are better chosen by
`unseen`, the distillation loss and the agreement with the network on mixes of these images. `--steps N` is a quick form
that shows that all parts work: N steps an epoch, one epoch, 512 test images. With `--output` the same command resumes
after an interruption: the logits, the pruned network and a checkpoint of each stage are kept in that folder. `--peer`
names the Python of an environment with Sony's Model Compression Toolkit (see ablations/mct_pruning.py), which then
prunes the same network to as many parameters; what it leaves is trained and quantized in the same way. The last line is
one JSON object.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.model import normalize
from learn2compress.compression.graphs.flattening import flatten_models
from learn2compress.compression.pruning.channel_pruning import plan_channels, without_channels
from learn2compress.compression.pruning.channel_targets import describe_widths
from learn2compress.compression.pruning.prunable import prunable
from learn2compress.compression.quantization.conversion import convert_float, convert_mixed, convert_quantization_aware
from learn2compress.compression.quantization.qat import calibrate, quantization_aware, settle_weight_ranges
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.compression.training.losses import soft_loss
from learn2compress.schemas.config import ChannelPassConfig, LossConfig
from learn2compress.schemas.files.arrays import write_arrays
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.model_file import prove_full_int8
from learn2compress.tflite.parsed_file import ParsedFile

VALIDATION, BATCH, AIM = 5000, 128, 0.932
UNSEEN_VIEW = 77  # odd, hence one of mixes, and beyond the views of the training
LEAST_SHARE = 0.5  # of the image that gives a mix its label
PEER_IMAGES, PEER_APPROXIMATIONS = 64, 8
NAME = "resnet56"
LOSS = LossConfig(soft_weight=0.9, temperature=4.0)


def own_student(teacher: keras.Model) -> keras.Model:
    """Turns a classifier of pixels 0..255 into a student: input in [-1, 1], logits instead of probabilities."""
    end = teacher.layers[-1]
    logits = end.input if isinstance(end, keras.layers.Softmax) else teacher.output
    body = keras.Model(teacher.input, logits)
    image = keras.Input(teacher.input_shape[1:])
    model = keras.Model(image, body(keras.layers.Rescaling(127.5, 127.5, name="pixels")(image)))
    return flatten_models({NAME: model}, tuple(teacher.input_shape[1:]), NAME)


def view(images: np.ndarray, number: int, seed: int, mixed: bool) -> np.ndarray:
    """Makes a view of each image: the first is the image itself, others are mirrored and shifted by up to 4 pixels.

    If `mixed`, every second view is a mix of each such image with another one, of which it keeps the larger share.
    """
    if number == 0:
        return images
    rng = np.random.default_rng([seed, number])
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    rows, columns = rng.integers(0, 9, (2, count))
    places = zip(padded, rows, columns, strict=True)
    moved = np.stack([image[row : row + height, column : column + width] for image, row, column in places])
    mirrored = rng.random(count) < 0.5
    moved[mirrored] = moved[mirrored, :, ::-1]
    if not (mixed and number % 2):
        return moved
    share = rng.uniform(LEAST_SHARE, 1, (count, 1, 1, 1)).astype(np.float32)
    return np.rint(share * moved + (1 - share) * moved[rng.permutation(count)]).astype(np.uint8)


def logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Computes the logits [images, classes] of a model."""
    call = tf.function(lambda x: model(normalize(x), training=False))
    return np.concatenate([call(images[i : i + 500]).numpy() for i in range(0, len(images), 500)])


class Data:
    """Views of the training images with the logits of the unpruned network."""

    def __init__(
        self,
        path: Path,
        model: keras.Model,
        seed: int,
        views: int,
        images: int | None,
        folder: Path | None,
        mixed: bool = True,
    ) -> None:
        arrays = np.load(path)
        order = np.random.default_rng(seed).permutation(len(arrays["train_images"]))
        held, rest = order[:VALIDATION], order[VALIDATION:][:images]
        self.held = arrays["train_images"][held], arrays["train_labels"][held].astype(np.int64)
        mixes = view(self.held[0][:images], UNSEEN_VIEW, seed, True)
        self.unseen = mixes, logits(model, mixes)
        self.test = arrays["test_images"], arrays["test_labels"].astype(np.int64)
        self.seed, self.labels = seed, arrays["train_labels"][rest].astype(np.int64)
        self.views = [view(arrays["train_images"][rest], number, seed, mixed) for number in range(views)]
        kept = folder / f"logits_{views}_{'mixed' if mixed else 'plain'}.npz" if folder else None
        if kept and kept.exists():
            self.logits = list(np.load(kept)["logits"])
            return
        self.logits = [logits(model, images) for images in self.views]
        if kept:
            write_arrays(kept, {"logits": np.stack(self.logits)})

    def epoch(self, number: int) -> tf.data.Dataset:
        """Makes the batches of an epoch: each image in one of its views."""
        rng = np.random.default_rng([self.seed, 1000 + number])
        order, chosen = rng.permutation(len(self.labels)), rng.integers(0, len(self.views), len(self.labels))

        def batches():
            for start in range(0, len(order) - BATCH + 1, BATCH):
                rows = order[start : start + BATCH]
                images = np.stack([self.views[chosen[row]][row] for row in rows])
                yield images, self.labels[rows], np.stack([self.logits[chosen[row]][row] for row in rows])

        shape, classes = self.views[0].shape[1:], self.logits[0].shape[1]
        signature = (
            tf.TensorSpec((BATCH, *shape), tf.uint8),
            tf.TensorSpec((BATCH,), tf.int64),
            tf.TensorSpec((BATCH, classes), tf.float32),
        )
        return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(4)

    def validation(self, count: int | None = None) -> tf.data.Dataset:
        """Makes the batches of the held-out images."""
        images, labels = (part[:count] for part in self.held)
        return tf.data.Dataset.from_tensor_slices((images, labels)).batch(500)


def prune(family: keras.Model, data: Data, given: argparse.Namespace, kept: Path | None) -> keras.Model:
    """Removes channels until the target is met, or reads the network of an interrupted run."""
    if kept and kept.exists():
        return keras.models.load_model(kept, compile=False)
    students = prunable(family, (NAME,))
    wanted = {"bytes": given.bytes, "macs": given.macs}
    target = {key: value for key, value in wanted.items() if value} or {"macs": 1 / 2.1}
    config = ChannelPassConfig(channels=target, sensitivity_images=64 if given.steps else 256)
    images, labels = (part[: config.sensitivity_images] for part in data.held)
    plan = plan_channels(students, config, data.epoch(0), images, labels, LOSS)
    pruned, _ = without_channels(students, plan, data.epoch(0))
    print(describe_widths(students, plan.widths()), flush=True)
    if kept:
        pruned.save(kept.with_suffix(".partial.keras"))
        kept.with_suffix(".partial.keras").rename(kept)
    return pruned


def prune_by_peer(
    family: keras.Model, data: Data, given: argparse.Namespace, parameters: int, folder: Path
) -> keras.Model | str:
    """Removes channels with the toolkit until as many parameters are left; returns its last line if it fails."""
    files = [str(folder / name) for name in ("peer_whole.h5", "peer_images.npz", "peer_pruned.h5")]
    if not Path(files[2]).exists():
        family.save(files[0])
        write_arrays(Path(files[1]), {"images": normalize(data.held[0][:PEER_IMAGES]).numpy()})
        print("the peer chooses channels: some 12 minutes without progress", flush=True)
        script = Path(__file__).parent / "ablations" / "mct_pruning.py"
        approximations = "1" if given.steps else str(PEER_APPROXIMATIONS)
        options = ["--parameters", str(parameters), "--approximations", approximations]
        own = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
        done = subprocess.run([given.peer, str(script), *files, *options], stderr=subprocess.PIPE, text=True, env=own)
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
    return keras.models.load_model(files[2], compile=False)


def train(
    model: keras.Model,
    name: str,
    data: Data,
    recipe: Recipe,
    validation: int | None,
    folder: Path | None,
    **hooks: Callable,
) -> list[float]:
    """Trains with the distillation loss; returns the validation accuracy of each epoch."""
    trainer = JointTrainer(model, (NAME,), recipe, **hooks)
    checkpoint = folder / f"{name}_{recipe.stage}.npz" if folder else None
    curves = trainer.train(data.epoch, data.validation(validation), checkpoint)
    return [epoch.accuracy[NAME] for epoch in curves]


def accuracy(data: bytes, images: np.ndarray, labels: np.ndarray) -> float:
    """Measures the accuracy of a .tflite file."""
    return float(np.mean(np.argmax(open_model(data).predict(images), axis=-1) == labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="cifar10.npz")
    parser.add_argument("--teacher", type=Path, required=True, help="resnet56_cifar10.h5")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of fine-tuning")
    parser.add_argument("--quantize-epochs", type=int, default=3, help="epochs of training for 8 bits")
    parser.add_argument("--macs", type=float, help="fraction of the MACs that is left; without --bytes: 1 / 2.1")
    parser.add_argument("--bytes", type=float, help="fraction of the predicted int8 bytes that is left")
    parser.add_argument("--views", type=int, default=8, help="views of each image for which the teacher gives logits")
    parser.add_argument("--unmixed", action="store_true", help="no view is a mix of two images")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="quick form: steps of the only epoch")
    parser.add_argument("--output", type=Path, help="folder from which an interrupted run resumes")
    parser.add_argument("--peer", help="Python of the environment of the toolkit to compare with")
    given = parser.parse_args()
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
    quick, began = given.steps is not None, time.monotonic()
    family = own_student(keras.models.load_model(given.teacher, compile=False))
    views, images = (1, given.steps * BATCH) if quick else (given.views, None)
    data = Data(given.data, family, given.seed, views, images, given.output, not given.unmixed)
    before = convert_float(family, "float32")
    print(f"{time.monotonic() - began:.0f} s: logits of {len(data.views)} views", flush=True)

    pruned = prune(family, data, given, given.output / "pruned.keras" if given.output else None)
    print(f"{time.monotonic() - began:.0f} s: channels removed", flush=True)
    found = measure(pruned, "own", before, data, given)
    if given.peer:
        with tempfile.TemporaryDirectory() as temporary:
            peer = prune_by_peer(family, data, given, pruned.count_params(), given.output or Path(temporary))
        found["peer"] = {"failed": peer} if isinstance(peer, str) else measure(peer, "peer", before, data, given)
    top1 = found["top1"]
    found |= {
        "test_images": len(data.test[1][: 512 if quick else None]),
        "before": round(accuracy(before.to_bytes(), *(part[: 512 if quick else None] for part in data.test)), 4),
        "seed": given.seed,
        "seconds": round(time.monotonic() - began),
        "at_least_93.2_percent": None if quick else top1["int8"] >= AIM,
        "int8_within_0.3_points": None if quick else top1["float32"] - top1["int8"] <= 0.003,
    }
    print(json.dumps(found))


def measure(pruned: keras.Model, name: str, before: ParsedFile, data: Data, given: argparse.Namespace) -> dict:
    """Fine-tunes a pruned network, trains it for 8 bits, and evaluates its files on the test images."""
    quick, began = given.steps is not None, time.monotonic()
    tests, held = (512, 512) if quick else (None, None)
    steps = len(data.labels) // BATCH
    recipe = Recipe("thinned", 1 if quick else given.epochs, steps, given.learning_rate, LOSS)
    recipe = replace(recipe, weight_decay=1e-4, ema_decay=0.99)
    fine = train(pruned, name, data, recipe, held, given.output)
    mixes, whole = data.unseen
    thinned = logits(pruned, mixes)
    unseen = {
        "loss": round(float(np.mean(soft_loss(whole, thinned, LOSS.temperature))), 3),
        "agreement": round(float(np.mean(np.argmax(whole, axis=-1) == np.argmax(thinned, axis=-1))), 4),
    }
    print(f"{name}, {time.monotonic() - began:.0f} s: validation {fine}, unseen {unseen}", flush=True)
    floating = convert_float(pruned, "float32")
    outputs_only = {layer.name for layer in pruned.layers if isinstance(layer, keras.layers.Rescaling)}
    aware = quantization_aware(pruned, False, outputs_only)
    calibrate(aware, pruned, [normalize(batch) for batch, *_ in islice(data.epoch(0), 4)])
    late = replace(recipe, stage="quantized", epochs=1 if quick else given.quantize_epochs, learning_rate=3e-4)
    learned = train(aware, name, data, late, held, given.output, after_restore=lambda: settle_weight_ranges(aware))
    integer = convert_quantization_aware(aware, "int8")
    plain = convert_mixed(pruned, "int8", data.views[0][:200])
    test = tuple(part[:tests] for part in data.test)
    macs = [file.facts.macs for file in (before, floating)]
    return {
        "top1": {
            kind: round(accuracy(file.to_bytes(), *test), 4)
            for kind, file in {"float32": floating, "int8": integer, "post_training_int8": plain}.items()
        },
        "unseen": unseen,
        "widths": [layer.filters for layer in pruned.layers if isinstance(layer, keras.layers.Conv2D)],
        "parameters": pruned.count_params(),
        "macs": macs,
        "macs_divided_by": round(macs[0] / macs[1], 3),
        "bytes": {
            "float32": [len(before.to_bytes()), len(floating.to_bytes())],
            "int8": len(integer.to_bytes()),
        },
        "full_int8": prove_full_int8(integer.facts).holds,
        "epochs": [len(fine), len(learned)],
        "training_seconds": round(time.monotonic() - began),
    }


if __name__ == "__main__":
    main()
