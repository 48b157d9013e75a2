# SPDX-License-Identifier: Apache-2.0
"""Ingests the user's labelled texts in a TFX node.

Inputs: none; the data section of the configuration names the texts (data/sources/text/), and their digest is a
parameter, so that a changed file is no cache hit. Outputs: TFX `Examples` with the splits train, validation and test,
as gzip TFRecord files of tf.Example, and `manifest.json` (`DataManifest`, which describes the record).

The splits are those that the source states. Otherwise texts are split by their group, if they have one, or by the
digest of their words, so that texts that differ in punctuation or case alone are in the same split. What the lineage
records is described in components/execution/example_gen.py.
"""

from tfx.types import standard_artifacts

from learn2compress.components.execution.example_gen import ExampleGenExecutor
from learn2compress.components.node import Node
from learn2compress.schemas.config import DataConfig


class TextExampleGenExecutor(ExampleGenExecutor):
    """Opens the source, runs the Beam pipeline, and checks its report."""


class TextExampleGen(Node):
    """Makes `Examples` of labelled texts.

    Parameters:
        data_digest: Digest of the source files (`data_digest`), so that a changed one is no cache hit.
        limit: Number of examples to take from each part, evenly spaced; left out: all.
    """

    EXECUTOR = TextExampleGenExecutor
    SECTIONS = {"data": DataConfig}
    PARAMETERS = {"data_digest": str, "limit": int}
    OUTPUTS = {"examples": standard_artifacts.Examples}
    OPTIONAL = ("limit",)
