# SPDX-License-Identifier: Apache-2.0
"""Reads TFRecord files of tf.Example, plain, gzip or zlib: each record has an encoded picture and a label.

The names of the features are configured, or else one of the usual pairs of names that the first record has. A label is
the index or the name of a class. Files whose names, or whose folders' names, contain train, validation or test form
these splits; otherwise the examples are split by content.
"""

import glob
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learn2compress.data.raw_examples import (
    EvenSample,
    ExampleSource,
    Part,
    Piece,
    RawExample,
    check_first_label,
    check_most_classes,
    order_classes,
)
from learn2compress.data.record_files import count_records, read_records
from learn2compress.modalities.image.pixels import decode_image
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import BadFile

_SPLIT_WORDS: tuple[tuple[Part, re.Pattern[str]], ...] = (
    ("train", re.compile(r"(?<![a-z])train(ing)?(?![a-z])")),
    ("validation", re.compile(r"(?<![a-z])(validation|valid|val|eval)(?![a-z])")),
    ("test", re.compile(r"(?<![a-z])test(ing)?(?![a-z])")),
)
# Of the image and the label: TF-Slim's and the Object Detection API's, TFDS's, and others'.
_USUAL_NAMES = (
    ("image/encoded", "image/class/label"), ("image", "label"), ("image/encoded", "label"), ("image_raw", "label"),
    ("image/encoded", "image/class/text"), ("image", "class"), ("image", "target"), ("encoded", "label"),
)  # fmt: skip
_RECORD_NAME = re.compile(r"tfrecord|-\d{5}-of-\d{5}")


@dataclass(frozen=True)
class TFRecordPiece(Piece):
    """The sampled records of one file.

    Attributes:
        offset: Number of records of the part in the files before this one.
        count: Number of records in this file.
        labels: The label of each label in the file, an index or a name; None if labels are not used.
        max_pixels: Pixels of the largest picture that is decoded.
    """

    path: str
    name: str
    part: Part
    sample: EvenSample
    offset: int
    count: int
    image_feature: str
    label_feature: str
    labels: dict[int | str, int] | None
    max_pixels: int

    def read(self) -> Iterator[RawExample | BadFile]:
        # Only positions whose rows are in this file: row(p) = p * total // len, so the first position is a ceiling.
        position = -(-self.offset * len(self.sample) // self.sample.total)
        for index, data in enumerate(read_records(self.path)):
            if position >= len(self.sample) or self.sample.row(position) != self.offset + index:
                continue
            position += 1
            where = f"{self.path}, record {index}"
            features = parse_example(data, where)
            encoded = single_value(features, self.image_feature, "image_feature", ("bytes_list",), where)
            label = self._index(features, where)
            source = f"{self.name}#{index}"
            try:
                image = decode_image(encoded, self.max_pixels)
            except ValueError as error:
                yield BadFile(source=source, reason=str(error))
                continue
            yield RawExample(source, self.part, label, image, file=encoded)

    def _index(self, features: Any, where: str) -> int:
        if self.labels is None:
            return -1
        label = _label(features, self.label_feature, where)
        if label not in self.labels:
            raise DataError(
                f"the label in {where} must be one of the {len(set(self.labels.values()))} classes; got {label!r}. "
                "Name all classes in data.classes, or leave it out; where labels begin at 1, set data.label_offset: 1 "
                "(evaluate: --label-offset 1)."
            )
        return self.labels[label]


def open_tfrecord(config: DataConfig, limit: int | None = None) -> ExampleSource:
    """Open TFRecord files.

    Without `data.classes` all records are read once for their labels.

    Raises:
        DataError: There are no files, one is truncated, only some have a split in their name, or a feature is missing.
    """
    files = list_files(config.path)
    parts = {file: part_of_name(file) for file in files}
    if len(set(parts.values())) > 1 and None in parts.values():
        nameless = next(file for file, part in parts.items() if part is None)
        raise DataError(
            f"either all or none of the files of {config.path} must have train, validation or test in their names; "
            f"got {nameless}. Rename it or move it away."
        )
    if "train" not in parts.values() and None not in parts.values():
        raise DataError(f"{config.path} must hold train files; got {', '.join(files)}. Add them to the pattern.")
    held = {file: count_records(path) for file, path in files.items()}
    totals: dict[Part, int] = {}
    for file, part in parts.items():
        totals[part] = totals.get(part, 0) + held[file]
    empty = next((part or "any" for part, total in totals.items() if not total), None)
    if empty:
        raise DataError(f"the {empty} files of {config.path} must hold records; got none. Write them anew.")
    config = _with_usual_names(config, next(iter(files.values())))
    classes, labels = _classes(config, files, parts)
    pieces, before = [], dict.fromkeys(totals, 0)
    samples = {part: EvenSample(total, limit) for part, total in totals.items()}
    for file, part in parts.items():
        pieces.append(TFRecordPiece(str(files[file]), file, part, samples[part], before[part], held[file],
                                    config.image_feature, config.label_feature, labels, config.max_pixels))  # fmt: skip
        before[part] += held[file]
    counts: dict[Part, int] = {part: len(sample) for part, sample in samples.items()}
    named = config.classes is not None or (labels is not None and any(isinstance(label, str) for label in labels))
    return ExampleSource(classes, counts, None, pieces, named=named)


def tfrecord_digest(config: DataConfig) -> str:
    """Compute the digest of the matching files and their names, by the rule of `tree_sha256`."""
    lines = [f"{file_sha256(path)}  {name}\n".encode() for name, path in list_files(config.path).items()]
    return hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def holds_records(folder: Path) -> bool:
    """Return whether a folder looks like one of TFRecord files."""
    return any(_RECORD_NAME.search(name) for _, _, names in os.walk(folder) for name in names)


def list_files(pattern: str) -> dict[str, Path]:
    """Return the files by name (relative to the folder, or the whole path of a pattern's match), in order."""
    root = Path(pattern)
    if root.is_dir():
        files = {p.relative_to(root).as_posix(): p for p in sorted(root.rglob("*")) if p.is_file()}
        files = {name: path for name, path in files.items() if _RECORD_NAME.search(path.name)}
        wanted = "a folder with files named *.tfrecord* or *-00000-of-00001"
    else:
        found = [root] if root.is_file() else [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]
        files = {path.name: path for path in found if path.is_file()}
        if len(files) < len(found):
            files = {str(path): path for path in found if path.is_file()}
        wanted = "a pattern that matches files"
    if not files:
        raise DataError(f"data.path must be {wanted}; got {pattern}, which yields none. Check the path.")
    return files


def _with_usual_names(config: DataConfig, path: Path) -> DataConfig:
    """Fill in other usual names of the two features, where those of the configuration are the default ones."""
    defaults = {name: DataConfig.model_fields[name].default for name in ("image_feature", "label_feature")}
    if any(getattr(config, name) != default for name, default in defaults.items()):
        return config
    features = parse_example(next(read_records(path)), f"{path}, record 0")
    for image, label in _USUAL_NAMES:
        if image in features and label in features:
            return config.model_copy(update={"image_feature": image, "label_feature": label})
    return config


def part_of_name(name: str) -> Part:
    """Return the split in a file's name, or in the name of the nearest folder."""
    for word in reversed(Path(name.lower()).parts):
        told = {part for part, pattern in _SPLIT_WORDS if pattern.search(word)}
        if len(told) == 1:
            return told.pop()
    return None


def parse_example(data: bytes, where: str) -> Any:
    """Parse a record.

    Returns:
        The features by name.

    Raises:
        DataError: It is no tf.Example.
    """
    # Imported here so that computing a digest does not start TensorFlow.
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        return tf.train.Example.FromString(data).features.feature
    except DecodeError as error:
        raise DataError(f"{where} must be a tf.Example; got other bytes. Write the file anew.") from error


def single_value(features: Any, name: str, field: str, kinds: tuple[str, ...], where: str) -> Any:
    """Return the one value of a feature.

    Args:
        field: Name of the field of the section `data` that names the feature.
        kinds: Accepted kinds of lists.

    Raises:
        DataError: There is no such feature, or it is of another kind or length.
    """
    option = field.replace("_", "-")
    if name not in features:
        raise DataError(
            f"data.{field} must be a feature of the records; got {name!r}, but {where} has "
            f"{', '.join(sorted(features)) or 'none'}. Set data.{field} (evaluate: --{option})."
        )
    kind = features[name].WhichOneof("kind")
    values: Any = getattr(features[name], kind).value if kind in kinds else ()
    if len(values) != 1:
        several = "; images of several classes at once are not supported" if field == "label_feature" else ""
        raise DataError(
            f"feature {name!r} must be one value of {' or '.join(kinds)}; got {len(values)} of {kind} in {where}. "
            f"Set data.{field} (evaluate: --{option}) to a feature of one value{several}."
        )
    return values[0]


def _label(features: Any, name: str, where: str) -> int | str:
    value = single_value(features, name, "label_feature", ("int64_list", "bytes_list"), where)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else int(value)


def _classes(
    config: DataConfig, files: dict[str, Path], parts: dict[str, Part]
) -> tuple[tuple[str, ...], dict[int | str, int]]:
    """Return the class names in label order, and the label of each label in the records."""
    if config.classes is not None:
        classes = order_classes(config.classes, config.classes, "data.classes")
        first = config.label_offset or 0
        return classes, {**{first + i: i for i in range(len(classes))}, **{name: i for i, name in enumerate(classes)}}
    seen: dict[Part, set[int | str]] = {}
    for name, path in files.items():
        for index, data in enumerate(read_records(path)):
            where = f"{path}, record {index}"
            seen.setdefault(parts[name], set()).add(_label(parse_example(data, where), config.label_feature, where))
    main = seen["train" if "train" in seen else None]
    for part, labels in seen.items():
        strange = sorted(map(str, labels - main))
        if strange:
            raise DataError(
                f"the classes of the {part} files of {config.path} must be among those of the train files; got "
                f"{strange[0]!r}. Add training images of it, or name all classes in data.classes."
            )
    indices = [label for label in main if isinstance(label, int)]
    names = sorted(label for label in main if isinstance(label, str))
    if not names:
        first = check_first_label(min(indices), config, config.path)
        check_most_classes(max(indices), config.path)
        classes = order_classes([str(label) for label in range(first, max(indices) + 1)], None, config.path)
        return classes, {first + label: label for label in range(len(classes))}
    if indices:
        raise DataError(f"labels in {config.path} must be all indices or all names; got both. Write them alike.")
    classes = order_classes(names, None, config.path)
    return classes, {name: index for index, name in enumerate(classes)}
