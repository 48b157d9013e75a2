# SPDX-License-Identifier: Apache-2.0
"""Ingests the user's labelled images in a TFX node.

Inputs: none; the data section of the configuration names the images (data/sources/), and their digest is a parameter,
so that a changed file is no cache hit. Outputs: TFX `Examples` with the splits train, validation and test, as gzip
TFRecord files of tf.Example, and `manifest.json` (`DataManifest`, which describes the record).

The test part of the source is the test split. All other images are split by the digest of their pixels in the source,
before they are resized: an image is always in the same split, whatever `data.height` is, copies of it are in the same
one, and new images leave the others where they are. Pictures that differ in the source and are equal once they are
resized may be in different splits; they are counted as duplicates, too. What the lineage records is described in
components/execution/example_gen.py.
"""

from tfx.types import standard_artifacts

from learn2compress.components.execution.example_gen import ExampleGenExecutor
from learn2compress.components.node import Node
from learn2compress.schemas.config import DataConfig


class ImageExampleGenExecutor(ExampleGenExecutor):
    """Opens the source, runs the Beam pipeline, and checks its report."""


class ImageExampleGen(Node):
    """Makes `Examples` of labelled images.

    Parameters:
        data_digest: Digest of the source files (`data_digest`), so that a changed one is no cache hit.
        limit: Number of examples to take from each part, evenly spaced; left out: all.
    """

    EXECUTOR = ImageExampleGenExecutor
    SECTIONS = {"data": DataConfig}
    PARAMETERS = {"data_digest": str, "limit": int}
    OUTPUTS = {"examples": standard_artifacts.Examples}
    OPTIONAL = ("limit",)
