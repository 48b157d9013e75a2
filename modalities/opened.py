# SPDX-License-Identifier: Apache-2.0
"""What an opened classifier of any modality can do; `tflite.interpreter` implements it for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from learn2compress.tflite.image_input import Layout, PixelReading
    from learn2compress.tflite.model_file import ModelFile
    from learn2compress.tflite.scores_output import ScoresReading


class OpenedClassifier(Protocol):
    """A .tflite file that computes scores for stored examples.

    Attributes:
        model: Contents of the file.
        scores: The output with the scores.
        classes: Number of classes.
        labels: Names of the classes that the file gives; empty if it gives none.
        lost_labels: Name of labels that the metadata name and the file lacks; empty if there are none.
        input_shape: Shape of an example.
        pixels: How pixels enter the file; None for other modalities.
        layout: Order of the pixels in the input; None for other modalities.
        read_as: How the file is read, in sentences.
    """

    model: ModelFile
    scores: ScoresReading
    classes: int
    labels: tuple[str, ...]
    lost_labels: str

    @property
    def input_shape(self) -> tuple[int, ...]: ...

    @property
    def pixels(self) -> PixelReading | None: ...

    @property
    def layout(self) -> Layout | None: ...

    @property
    def read_as(self) -> tuple[str, ...]: ...

    def order_outputs(self, order: Sequence[int], /) -> None:
        """From now on, scores are those of the named outputs, in that order."""

    def predict(self, examples: np.ndarray, /) -> np.ndarray:
        """Returns the scores of a batch of stored examples, [n, classes] float32."""

    def predict_raw(self, example: Any, /) -> tuple[np.ndarray, np.ndarray]:
        """Returns the tensors that go in and come out for one example."""

    def latency(self, repeats: int = 50, warmup: int = 5) -> np.ndarray:
        """Returns the milliseconds that each of `repeats` invocations took, after a warm-up."""

    def arena_bytes(self) -> int:
        """Returns the memory that the runtime plans for activations."""
