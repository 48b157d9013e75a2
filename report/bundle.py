# SPDX-License-Identifier: Apache-2.0
"""Builds OUT/bundle.zip: the chosen file with everything that an app developer needs to use it and to check it.

    <name>.tflite              the chosen file, byte for byte
    labels.txt                 its classes, one on each line
    vocab.txt or keys.bin      of a text classifier: its dictionary
    MODEL_CARD.md              its intended use, figures, limits and origin
    golden/                    test images with the file's input and output tensors, indexed by golden.json
    snippets/classify.py       runs the file in Python and checks the golden vectors
    snippets/Classifier.kt     the same for Android
    snippets/Classifier.swift  the same for iOS

Equal runs give equal bytes: entries are sorted, stored uncompressed, and have a fixed time.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from learn2compress.modalities import OpenedClassifier, modality_of
from learn2compress.modalities.protocol import Presentation
from learn2compress.report.golden import golden_examples, golden_files
from learn2compress.report.model_card import render_model_card
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import ModelFileError, OutputError
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.manifests import MANIFEST, DataManifest, read_manifest
from learn2compress.schemas.reports import Report
from learn2compress.tflite.metadata import LABELS_FILE
from learn2compress.tflite.model_file import read_bytes
from learn2compress.tflite.parsed_file import ParsedFile, parse_file

BUNDLE = "bundle.zip"
CARD = "MODEL_CARD.md"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold


def write_bundle(output: str | Path, report: Report, selected: str | Path, examples: str | Path) -> Path:
    """Write OUT/bundle.zip, completely or not at all.

    Args:
        output: Output folder.
        report: Report of the run, with its choice.
        selected: The chosen file.
        examples: Folder of the Examples artifact, for the golden vectors.

    Returns:
        Path of the bundle.

    Raises:
        ModelFileError: The file is not the one that was chosen.
        DataError: The test images cannot be read.
        OutputError: The bundle cannot be written.
    """
    return save_bundle(output, build_bundle(report, selected, examples))


def save_bundle(output: str | Path, content: bytes) -> Path:
    """Write the bundle's bytes to the output folder.

    Raises:
        OutputError: The file cannot be written.
    """
    path = Path(output, BUNDLE)
    try:
        write_whole(path, content)
    except OSError as error:
        raise OutputError(f"{path} must be writable; {error.strerror}. Make it writable and run again.") from error
    return path


def build_bundle(report: Report, selected: str | Path, examples: str | Path) -> bytes:
    """Build the bundle's bytes; arguments and errors are those of `write_bundle`."""
    found = file_sha256(selected)
    if found != report.choice.sha256:
        raise ModelFileError(
            f"{selected} must be the file that was chosen, {report.choice.chosen} with SHA-256 "
            f"{report.choice.sha256}; got {found}. Run `learn2compress run` again."
        )
    data = read_bytes(selected)
    name = f"{report.choice.chosen}.tflite"
    task, parsed = report.evaluation.task, parse_file(data, file=str(selected))
    classifier = modality_of(task).device_format.open_classifier(parsed)
    chosen = golden_examples(examples, read_manifest(examples, DataManifest))
    files = {
        name: data,
        **{name: content for name, content in parsed.files.items() if name != LABELS_FILE},
        LABELS_FILE: "".join(f"{label}\n" for label in task.classes).encode(),
        CARD: render_model_card(report).encode(),
        **golden_files(classifier, task, chosen, name, found),
        **_snippets(name, parsed, classifier, modality_of(task).presentation(task)),
    }
    return pack_files(files)


def find_examples(output: str | Path, report: Report) -> Path | None:
    """Find the Examples artifact of a run below OUT/pipeline; return None if its test images are not there.

    After a run on a cluster, only the manifest of the examples is fetched, not the images.
    """
    folders = [path.parent for path in Path(output, "pipeline").glob(f"**/examples/*/{MANIFEST}")]
    for folder in sorted(folders):
        data = read_manifest(folder, DataManifest)
        here = all((folder / "Split-test" / shard).is_file() for shard in data.shards["test"])
        if here and data == DataManifest.model_validate({**report.data, "shards": data.shards}):
            return folder
    return None


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Pack files into a zip archive; equal files give equal bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix; the default depends on the packing system
            archive.writestr(entry, content)
    return stream.getvalue()


def _snippets(
    model: str, parsed: ParsedFile, classifier: OpenedClassifier, presentation: Presentation
) -> dict[str, bytes]:
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.keep_trailing_newline = True
    facts = {**_facts(model, classifier), **presentation.snippet_facts(parsed, classifier)}
    templates = {name: environment.from_string(presentation.snippet_template(name)) for name in presentation.snippets}
    return {f"snippets/{name}": template.render(facts).encode() for name, template in templates.items()}


def _facts(model: str, classifier: OpenedClassifier) -> dict[str, Any]:
    """Collect what the snippets need to know about the file, whatever its modality."""
    source, result = classifier.model.input, classifier.model.output
    return {
        "model": model,
        "stem": model.removesuffix(".tflite"),
        "classes": classifier.classes,
        "input": source,
        "output": result,
        "input_low": {"int8": -128, "uint8": 0}.get(source.dtype),
        "input_high": {"int8": 127, "uint8": 255}.get(source.dtype),
    }
