# SPDX-License-Identifier: Apache-2.0
"""Measures what a training step of the built-in family consists of, in the order in which a step does it.

    python benchmarks/ablations/step_parts.py [--side 32] [--batch 128] [--rounds 40]

Each row does what the row before does, and more: the forward pass with the losses, the gradients, the optimizer, the
moving average of the weights, and reading the losses on the host after each step, which the product does once in 16
steps. All rows run in turn in each round, on the same batch; the figure is the median over the rounds of a row's time
relative to the whole step's. Both kinds of blocks are measured. The last line is one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np
import tensorflow as tf

from learn2compress.compression.family.model import build_family
from learn2compress.compression.family.sizing import solve_family
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.compression.training.losses import family_losses
from learn2compress.schemas.config import LossConfig, StudentSize

CLASSES = 10
NAMES = ("small", "medium", "large")
WHOLE = "moving average"


def main() -> None:
    """Measures both kinds of blocks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=32, help="width and height of the images in pixels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    found = {}
    for blocks in ("by_stage", "separable"):
        rows = found[blocks] = measure(parts(options.side, options.batch, blocks), options.rounds)
        print(f"\n{blocks}: {rows[WHOLE]['ms']:.0f} ms a step")
        for name, row in rows.items():
            print(f"  {name:<16} {row['ms']:7.1f} ms  {row['of_step']:6.1%} of the step", flush=True)
    print(json.dumps({"batch": options.batch, "side": options.side, **found}))


def parts(side: int, batch: int, blocks: str) -> dict[str, Callable[[], object]]:
    """Makes the rows: functions without arguments, each of which waits for its result.

    Args:
        side: Width and height of the images in pixels.
        batch: Images in a step.
        blocks: Kind of the blocks, see `students.blocks`.
    """
    shape, rng = (side, side, 3), np.random.default_rng(0)
    spec = solve_family({name: StudentSize() for name in NAMES}, shape, CLASSES, blocks=blocks)
    images = tf.constant(rng.integers(0, 256, (batch, *shape), dtype=np.uint8))
    labels = tf.constant(rng.integers(0, CLASSES, batch))
    logits = tf.constant(rng.normal(size=(batch, CLASSES)).astype(np.float32))
    plain, averaged = (
        JointTrainer(build_family(spec), spec.students, Recipe("distilled", 1, 1, 2e-2, weight_decay=1e-4, ema_decay=d))
        for d in (0.0, 0.99)
    )
    model, decay = plain.model, tf.constant(0.99)

    def losses() -> tf.Tensor:
        outputs = model(plain.inputs.normalize(images), training=True)
        return tf.add_n([tf.reduce_mean(loss) for loss in family_losses(labels, logits, outputs, LossConfig())])

    @tf.function(autograph=False)
    def forward() -> tf.Tensor:
        return losses()

    @tf.function(autograph=False)
    def gradients() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            total = losses()
        return tape.gradient(total, model.trainable_variables)

    return {
        "forward": lambda: forward().numpy(),
        "gradients": lambda: gradients()[0].numpy(),
        "optimizer": lambda: plain.step(images, labels, logits, decay),
        WHOLE: lambda: averaged.step(images, labels, logits, decay),
        "reading losses": lambda: averaged.step(images, labels, logits, decay).numpy(),
    }


def measure(rows: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Runs all rows in turn, and computes the median milliseconds and the median share of the whole step."""
    times = np.empty((rounds, len(rows)))
    for number in range(-3, rounds):
        for place, run in enumerate(rows.values()):
            began = time.perf_counter()
            run()
            if number >= 0:
                times[number, place] = time.perf_counter() - began
    whole = list(rows).index(WHOLE)
    shares, milliseconds = np.median(times / times[:, [whole]], axis=0), np.median(times, axis=0) * 1000
    return {
        name: {"ms": round(float(ms), 2), "of_step": round(float(share), 4)}
        for name, ms, share in zip(rows, milliseconds, shares, strict=True)
    }


if __name__ == "__main__":
    main()
