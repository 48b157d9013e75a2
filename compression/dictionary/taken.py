# SPDX-License-Identifier: Apache-2.0
"""Converts training data to what students take: stored images as they are, texts to the ids of their dictionary."""

from dataclasses import replace

import numpy as np

from learn2compress.compression.training.training_data import TrainingData
from learn2compress.modalities.text.lookup.dictionary import Dictionary


def taken(data: TrainingData, dictionary: bytes | None) -> TrainingData:
    """Return the data as students take them.

    Args:
        data: Training data.
        dictionary: Dictionary of students of texts; None for other students.
    """
    if dictionary is None:
        return replace(data, encode=None)
    lookup, length = Dictionary.from_bytes(dictionary).lookup, data.task.input_shape[0]

    def encode(texts: np.ndarray) -> np.ndarray:
        return lookup.encode(texts, length)

    return replace(data, encode=encode)
