# SPDX-License-Identifier: Apache-2.0
"""Opens the .tflite file of an image classifier, and writes the description of its input to the metadata."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learn2compress.modalities.image.pixels import fit_image
from learn2compress.modalities.opened import OpenedClassifier
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.interpreter import Classifier, open_model
from learn2compress.tflite.parsed_file import ParsedFile
from learn2compress.tflite.transformations.metadata import write_metadata


class ImageDeviceFormat:
    """Implements `DeviceFormat` for images."""

    def open_classifier(self, source: ParsedFile | bytes | str | Path, **options: Any) -> Classifier:
        """Opens a file whose one input is an image; see `tflite.interpreter.open_model`."""
        return open_model(source, **options)

    def fit(self, batch: np.ndarray, classifier: OpenedClassifier) -> np.ndarray:
        """Resizes images to the height and width that a file takes, as an app resizes a camera frame."""
        if batch.shape[1:] == classifier.input_shape:
            return batch
        height, width, channels = classifier.input_shape
        return np.stack([fit_image(image, (height, width, channels)) for image in batch])

    def check_input(self, classifier: OpenedClassifier, shape: tuple[int, ...]) -> None:
        """Raises ModelFileError if the file takes larger images, or images of another shape or number of channels."""
        height, width, channels = classifier.input_shape
        # Students may take smaller images than the teacher, for which the examples are stored.
        smaller = height <= shape[0] and width <= shape[1] and channels == shape[2]
        if not (smaller and abs(height * shape[1] - width * shape[0]) <= max(shape[:2])):
            raise ModelFileError(
                f"{classifier.model.file} must take images of {list(shape)}; "
                f"it takes {list(classifier.input_shape)}. Convert the data to that shape."
            )

    def probe(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns one black image."""
        return np.zeros((1, *shape), np.uint8)

    def class_words(self, source: ParsedFile | bytes | str | Path) -> dict[str, list[str]]:  # noqa: ARG002
        """Returns nothing, since images have no words."""
        return {}

    def write_metadata(
        self,
        parsed: ParsedFile,
        *,
        name: str,
        made: str,
        labels: Sequence[str],
        output_name: str,
        normalization: Scaling,
        dictionary: bytes | None = None,  # noqa: ARG002
    ) -> None:
        """Describes the input as an image with its color space and normalization."""
        write_metadata(
            parsed,
            name=name,
            description=f"Image classifier of {len(labels)} classes, {made}.",
            labels=labels,
            output_name=output_name,
            file=name,
            mean=normalization.mean,
            std=normalization.std,
        )
