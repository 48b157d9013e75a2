# SPDX-License-Identifier: Apache-2.0
"""Writes TensorFlow Lite Metadata into a text classifier: how a text is split, the ids of its words, the labels.

With a vocabulary the input has a RegexTokenizer, by which MediaPipe's TextClassifier and the Task Library's
NLClassifier load the file as it is. Without one, an app finds the ids by a program of its own in the associated file.

Source: tensorflow_lite_support/metadata/metadata_schema.fbs (RegexTokenizerOptions, since version 1.2.1)
"""

from collections.abc import Sequence
from typing import Any

from learn2compress.tflite.metadata import REGEX_TOKENIZER, UNKNOWN_FILE, VOCABULARY
from learn2compress.tflite.parsed_file import ParsedFile
from learn2compress.tflite.transformations.metadata import put_metadata

_PARSER_VERSION = "1.2.1"
_FEATURE = 1  # union ContentProperties


def write_text_metadata(
    parsed: ParsedFile,
    *,
    name: str,
    description: str,
    labels: Sequence[str],
    file_name: str,
    content: bytes,
    pattern: str | None,
    output_name: str,
    file: str,
) -> ParsedFile:
    """Writes metadata, dictionary and labels into a text classifier, and replaces existing ones.

    Args:
        parsed: The file; other files appended to it are kept.
        name: Name of the model.
        description: Description of the model.
        labels: Names of the classes, in the order of the model's output.
        file_name: Name of the associated file with the dictionary.
        content: Content of this file.
        pattern: Delimiter of the words for a RegexTokenizer, whose vocabulary the file is; None without a tokenizer.
        output_name: Name of the output for an app.
        file: Name of the file in error messages.

    Returns:
        The same file.

    Raises:
        ModelFileError: The labels do not match the output.
    """
    about = {"name": name, "description": description}
    text = _text_tensor(file_name, pattern)
    put_metadata(parsed, about, text, labels, output_name, _PARSER_VERSION, file)
    parsed.files[file_name] = content
    return parsed


def _text_tensor(file_name: str, pattern: str | None) -> dict[str, Any]:
    features: tuple[str, dict[str, Any]] = ("FeatureProperties", {})
    properties = {"content_properties_type": _FEATURE, "content_properties": features}
    kind = UNKNOWN_FILE if pattern is None else VOCABULARY
    dictionary = ("AssociatedFile", {"name": file_name, "description": "The ids of the words.", "type": kind})
    tensor: dict[str, Any] = {
        "name": "text",
        "description": "The ids of the words of the text to classify.",
        "content": ("Content", properties),
    }
    if pattern is None:
        return {**tensor, "associated_files": [dictionary]}
    options = ("RegexTokenizerOptions", {"delim_regex_pattern": pattern, "vocab_file": [dictionary]})
    unit = ("ProcessUnit", {"options_type": REGEX_TOKENIZER, "options": options})
    return {**tensor, "process_units": [unit]}
