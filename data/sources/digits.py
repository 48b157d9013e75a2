# SPDX-License-Identifier: Apache-2.0
"""Reads the handwritten digits of scikit-learn: 1,797 grey images of 8 x 8 pixels, for trials without network access.

The last fifth is the test part, without shuffling, as in scikit-learn's own example: its digits were written by other
people than the rest. A teacher trained on the first `TRAIN_ROWS` rows has not seen it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from learn2compress.data.raw_examples import EvenSample, ExampleSource, Part, Piece, RawExample, order_classes
from learn2compress.schemas.config import DataConfig

ROWS_A_PIECE = 256
TRAIN_ROWS = 1437


@dataclass(frozen=True)
class DigitsPiece(Piece):
    """Some of the sampled images, given by their positions in the sample, and the label of each digit."""

    part: Literal["train", "test"]
    sample: EvenSample
    positions: range
    relabel: tuple[int, ...]

    def read(self) -> Iterator[RawExample]:
        images, labels = load_digits()
        first = TRAIN_ROWS if self.part == "test" else 0
        for row in (first + self.sample.row(position) for position in self.positions):
            yield RawExample(f"digits[{row}]", self.part, self.relabel[int(labels[row])], images[row])


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Load the digits.

    Returns:
        images: [1797, 8, 8, 1] uint8, 0..16 scaled to 0..255; labels: [1797] int64.
    """
    # Imported here because scikit-learn takes a second.
    from sklearn import datasets

    digits = datasets.load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return images[:, :, :, np.newaxis], digits.target.astype(np.int64)


def open_digits(config: DataConfig, limit: int | None = None) -> ExampleSource:
    """Open the digits as a source.

    Args:
        config: Section `data`.
        limit: Number of images to take from each part, evenly spaced; None for all.
    """
    images, _ = load_digits()
    found = [str(digit) for digit in range(10)]
    classes = order_classes(found, config.classes, "digits")
    samples: dict[Literal["train", "test"], EvenSample] = {
        "train": EvenSample(TRAIN_ROWS, limit),
        "test": EvenSample(len(images) - TRAIN_ROWS, limit),
    }
    relabel = tuple(classes.index(name) for name in found)
    pieces = [
        DigitsPiece(part, sample, positions, relabel)
        for part, sample in samples.items()
        for positions in sample.ranges(ROWS_A_PIECE)
    ]
    height, width, channels = images.shape[1:]
    counts: dict[Part, int] = {part: len(sample) for part, sample in samples.items()}
    return ExampleSource(classes, counts, (height, width, channels), pieces)


def digits_digest(config: DataConfig) -> str:  # noqa: ARG001 - all formats have the same signature
    """Compute the SHA-256 of the images' and then the labels' bytes."""
    images, labels = load_digits()
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
