# SPDX-License-Identifier: Apache-2.0
"""Opens the .tflite file of an image classifier, and writes the description of its input to the metadata."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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

    def check_input(self, classifier: OpenedClassifier, shape: tuple[int, ...]) -> None:
        """Raises ModelFileError if the file takes images of another shape."""
        if classifier.input_shape != shape:
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
