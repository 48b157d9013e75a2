# SPDX-License-Identifier: Apache-2.0
"""Presents images to people: previews, golden pictures, and the programs of the bundle that run the chosen file.

Imports are local to the functions, because a lineage query needs only the size of an image.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from learn2compress.modalities.opened import OpenedClassifier
    from learn2compress.tflite.parsed_file import ParsedFile


class ImagePresentation:
    """Implements `Presentation` for images.

    Args:
        shape: Height, width and channels of the task's images.
    """

    classifier = "image classifier"
    golden_extras: tuple[Any, ...] = ()
    snippets: tuple[str, ...] = ("classify.py", "Classifier.kt", "Classifier.swift")

    def __init__(self, shape: tuple[int, int, int]) -> None:
        height, width, channels = shape
        self.described = f"an image of {width}x{height} pixels, {'grey' if channels == 1 else 'red, green, blue'}"
        self.size = "x".join(map(str, shape))
        self.input_format = f"image, {self.size}"

    def preview(self, stored: np.ndarray) -> str:
        """Draws a thumbnail; see `thumbnail`."""
        from learn2compress.modalities.image.thumbnails import thumbnail

        return thumbnail(stored)

    def golden_file(self, stored: np.ndarray) -> tuple[str, bytes]:
        """Encodes an image as PNG."""
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(stored[:, :, 0] if stored.shape[2] == 1 else stored).save(stream, "PNG")
        return ".png", stream.getvalue()

    def snippet_template(self, name: str) -> str:
        """Reads a template from the folder beside this module."""
        return (resources.files(__package__) / "templates" / f"{name}.j2").read_text("utf-8")

    def snippet_facts(self, parsed: ParsedFile, classifier: OpenedClassifier) -> Mapping[str, Any]:
        """Collects the size and the normalization of a file's images, with a number for each channel."""
        from learn2compress.tflite.metadata import read_metadata

        about = read_metadata(parsed, file=classifier.model.file)
        height, width, channels = classifier.input_shape
        mean, std = (about.mean, about.std) if about and about.mean else ((0.0,), (1.0,))
        if len(mean) == 1:
            mean, std = mean * channels, std * channels
        return {
            "height": height,
            "width": width,
            "channels": channels,
            "mean": [repr(value) for value in mean],
            "std": [repr(value) for value in std],
        }
