# SPDX-License-Identifier: Apache-2.0
"""Opens the .tflite file of a text classifier, and writes its dictionary and the description of its input into it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learn2compress.modalities.opened import OpenedClassifier
from learn2compress.modalities.text.class_words import class_words
from learn2compress.modalities.text.classifier import TextClassifier, gathered, open_text_model
from learn2compress.modalities.text.lookup.dictionary import Dictionary
from learn2compress.modalities.text.lookup.vocabulary import VocabularyLookup
from learn2compress.modalities.text.words import SEPARATOR
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.model_file import read_bytes
from learn2compress.tflite.parsed_file import ParsedFile, parse_file
from learn2compress.tflite.transformations.text_metadata import write_text_metadata


class TextDeviceFormat:
    """Implements `DeviceFormat` for texts."""

    def open_classifier(self, source: ParsedFile | bytes | str | Path, **options: Any) -> TextClassifier:
        """Opens a file whose one input are the ids of a text; see `open_text_model`. Texts have no example shape."""
        options.pop("example_shape", None)
        return open_text_model(source, **options)

    def fit(self, batch: np.ndarray, classifier: OpenedClassifier) -> np.ndarray:  # noqa: ARG002
        """Returns the texts themselves: a file takes any text."""
        return batch

    def check_input(self, classifier: OpenedClassifier, shape: tuple[int, ...]) -> None:
        """Raises ModelFileError if the file takes another number of ids."""
        if classifier.input_shape != shape:
            raise ModelFileError(
                f"{classifier.model.file} must take {shape[0]} ids; it takes {classifier.input_shape[0]}. Set "
                "data.max_tokens to that number."
            )

    def probe(self, shape: tuple[int, ...]) -> np.ndarray:  # noqa: ARG002
        """Returns one empty text."""
        return np.array([b""], object)

    def class_words(self, source: ParsedFile | bytes | str | Path) -> dict[str, list[str]]:
        """Finds the words of each class; see class_words.py. Empty for a file of keys, or that computes otherwise."""
        parsed = parse_file(read_bytes(source) if isinstance(source, str | Path) else source)
        try:
            classifier = open_text_model(parsed)
        except ModelFileError:
            return {}
        if not isinstance(classifier.lookup, VocabularyLookup):
            return {}
        found = class_words(parsed, classifier.lookup.ids) or []
        names = classifier.labels or [str(number) for number in range(len(found))]
        return dict(zip(names, found, strict=False))

    def write_metadata(
        self,
        parsed: ParsedFile,
        *,
        name: str,
        made: str,
        labels: Sequence[str],
        output_name: str,
        normalization: Scaling,  # noqa: ARG002
        dictionary: bytes | None = None,
    ) -> None:
        """Writes the dictionary into the file, and describes the input as the ids of a text.

        Args:
            parsed: Converted file, whose table is in the order of the dictionary.
            name: Name of the model.
            made: How the file was made, for its description.
            labels: Names of the classes in the order of the outputs.
            output_name: Name of the output in an app.
            normalization: Not used; texts are not scaled.
            dictionary: Dictionary of the students, of which the file takes as many entries as its table has rows; None
                for a file of another origin, whose metadata are left as they are.
        """
        if dictionary is None:
            return
        own = fit_dictionary(parsed, Dictionary.from_bytes(dictionary))
        write_text_metadata(
            parsed,
            name=name,
            description=f"Text classifier of {len(labels)} classes, {made}.",
            labels=labels,
            file_name=own.file_name,
            content=own.file_content(),
            pattern=SEPARATOR if own.carrier == "words" else None,
            output_name=output_name,
            file=name,
        )


def fit_dictionary(parsed: ParsedFile, dictionary: Dictionary) -> Dictionary:
    """Takes the entries of a file's table, and puts its rows into the order of the carried file, in place.

    Args:
        parsed: File with one table, whose row i + 1 is that of the dictionary's entry i.
        dictionary: Dictionary with at least as many entries as the table has rows.

    Returns:
        The dictionary of the file.

    Raises:
        ModelFileError: The file has no table, or the dictionary is smaller than it.
    """
    table = next(gathered(parsed.facts), None)
    if table is None or table.shape[0] > len(dictionary.entries) + 1:
        found = "no table" if table is None else f"a table of {table.shape[0]} rows"
        raise ModelFileError(
            f"A text student must have a table within the {len(dictionary.entries)} entries of its dictionary; "
            f"{parsed.file} has {found}. Run Distiller again."
        )
    own = dictionary.first(table.shape[0] - 1)
    order = np.concatenate([[0], own.file_order + 1])
    if not np.array_equal(order, np.arange(len(order))):
        model = parsed.edit()
        tensor = model.subgraphs[0].tensors[table.index]
        buffer = model.buffers[tensor.buffer]
        rows = np.asarray(buffer.data, np.uint8).reshape(table.shape[0], -1)
        buffer.data = np.ascontiguousarray(rows[order]).reshape(-1)
    return own
