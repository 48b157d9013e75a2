# SPDX-License-Identifier: Apache-2.0
"""Determines the format of a teacher's file from its content, before it is loaded.

Keras 2 and Keras 3 cannot reliably read each other's files, and the suffix shows neither which version wrote a file nor
whether it contains a model. The loader is therefore chosen by the metadata in the file. This module does not import
TensorFlow and does not execute anything from the file, since a pickle or the bytecode of a Lambda layer can be any
program.
"""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from learn2compress.compression.teacher.archive import MOST_CONFIG_BYTES, check_members
from learn2compress.schemas.digests import path_bytes
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.files.archives import BROKEN_ARCHIVE

TeacherFormat = Literal["keras3-keras", "keras3-h5", "keras2-keras", "keras2-h5", "saved-model"]

WANTED = "a SavedModel folder, a .keras file or an .h5 file of a whole model"
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class FileDescription:
    """Description of a teacher's file.

    Attributes:
        path: Path of the file or folder.
        format: Its format.
        size_bytes: Size of the file, or of all files in the folder.
        keras_version: Version of Keras that wrote the file, if it is recorded.
        model_config: Keras configuration of the model, parsed from JSON; None for a SavedModel.
    """

    path: Path
    format: TeacherFormat
    size_bytes: int
    keras_version: str | None = None
    model_config: dict[str, Any] | None = None


def describe_file(path: str | Path) -> FileDescription:
    """Determine the format of a teacher's file.

    Args:
        path: Path of the file or folder.

    Raises:
        TeacherError: The path does not exist, or the file is not a model, is truncated, contains weights without a
            model, or contains code, which is not executed.
    """
    path = Path(path)
    if not path.exists():
        raise TeacherError(f"teacher must be {WANTED}; got {path}, which does not exist. Check teacher.path.")
    if path.is_dir():
        return _describe_folder(path)
    try:
        with open(path, "rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise TeacherError(f"teacher {path} must be readable; got: {error.strerror}. Check its permissions.") from error
    if head.startswith(_HDF5_MAGIC):
        return _describe_h5(path)
    if head.startswith(_ZIP_MAGIC):
        return _describe_zip(path)
    raise TeacherError(f"teacher {path} must be {WANTED}; got {_guess(path, head)}.")


def _describe_folder(path: Path) -> FileDescription:
    if any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        return FileDescription(path, "saved-model", path_bytes(path))
    inner = sorted(path.glob("*/saved_model.pb*"))
    if inner:
        raise TeacherError(
            f"teacher {path} must be a SavedModel folder; got a folder of {len(inner)} of them. "
            f"Set teacher.path: {inner[-1].parent}."
        )
    raise TeacherError(
        f"teacher {path} must be {WANTED}; got a folder without saved_model.pb. "
        "Training checkpoints contain no model: load one into its model, and save the model."
    )


def _describe_h5(path: Path) -> FileDescription:
    import h5py  # comes with Keras

    try:
        with h5py.File(path, "r") as file:
            config, version = file.attrs.get("model_config"), file.attrs.get("keras_version")
            weights_only = "layer_names" in file.attrs or "layers" in file or "_layer_checkpoint_dependencies" in file
    except OSError as error:
        raise _damaged(path, ".h5", error) from error
    if config is None:
        what = (
            "only weights, without the model that they belong to"
            if weights_only
            else "an HDF5 file without a Keras model"
        )
        raise TeacherError(
            f"teacher {path} must contain a whole model; got {what}. Save it with model.save, not model.save_weights."
        )
    # Python 2 wrote bytes; files from before Keras 2 have no version and are read as Keras 2.
    version = version.decode() if isinstance(version, bytes) else version
    return _keras_description(path, "h5", version or "2", config)


def _describe_zip(path: Path) -> FileDescription:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if not {"metadata.json", "config.json"} <= set(names):
                what = (
                    "a PyTorch file" if any(n.endswith("data.pkl") for n in names) else "a zip archive of other files"
                )
                raise TeacherError(f"teacher {path} must be {WANTED}; got {what}. Convert it to TensorFlow.")
            check_members(path, archive)
            damaged = archive.testzip()
            if damaged is not None:
                raise TeacherError(
                    f"teacher {path} must be a whole .keras file; got one whose {damaged} is damaged. "
                    "Copy it again from its source."
                )
            metadata = json.loads(archive.read("metadata.json"))
            config = archive.read("config.json")
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable_config(path, error) from error
    except BROKEN_ARCHIVE as error:
        raise _damaged(path, ".keras", error) from error
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    if not version:
        raise TeacherError(
            f"teacher {path} must name its keras_version in metadata.json; got none. Save the model again."
        )
    return _keras_description(path, "keras", version, config)


def _keras_description(
    path: Path, container: Literal["keras", "h5"], version: str, config: str | bytes
) -> FileDescription:
    try:
        if len(config) > MOST_CONFIG_BYTES:
            raise ValueError(f"a configuration of {len(config):,} bytes")
        parsed = json.loads(config)
        major = int(str(version).split(".")[0])
    except (ValueError, RecursionError) as error:
        raise _unreadable_config(path, error) from error
    for name in lambda_layers(parsed):
        # Keras refuses these in some formats only; tf_keras executes the bytecode stored in an .h5 file without
        # warning.
        raise TeacherError(
            f"teacher {path} must not contain code; got the Lambda layer '{name}', which runs Python stored in "
            "the file. Replace it by another layer, or export a SavedModel in an environment that trusts the code."
        )
    formats: dict[str, tuple[TeacherFormat, TeacherFormat]] = {
        "keras": ("keras2-keras", "keras3-keras"),
        "h5": ("keras2-h5", "keras3-h5"),
    }
    return FileDescription(path, formats[container][major >= 3], path_bytes(path), str(version), parsed)


def lambda_layers(config: Any) -> Iterator[str]:
    """Yield the names of the Lambda layers in a Keras configuration, at any depth.

    Args:
        config: Keras configuration, parsed from JSON.
    """
    pending = [config]  # no recursion, since a file decides how deep it is nested
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            if one.get("class_name") == "Lambda":
                inner = one.get("config")
                yield str((inner if isinstance(inner, dict) else {}).get("name", "Lambda"))
            pending += reversed(one.values())
        elif isinstance(one, list):
            pending += reversed(one)


def _guess(path: Path, head: bytes) -> str:
    """Describe a file that is not a supported model, with the remedy."""
    if not head:
        return "an empty file"
    if path.name in ("saved_model.pb", "saved_model.pbtxt", "keras_metadata.pb"):
        return f"one file of a SavedModel. Set teacher.path: {path.parent}"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite file, which cannot be a teacher. Give the model that it was converted from"
    if head[0] == 0x80 and head[1] in range(2, 6):
        return "a Python pickle, which is never loaded since it can run any code. Save the model with model.save"
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar" or path.name.endswith((".tar", ".7z", ".zst")):
        return "an archive. Unpack it and give what was in it"
    if path.suffix == ".pb":
        return "a frozen graph. Export it as a SavedModel with a serving_default signature"
    if path.suffix == ".onnx":
        return "an ONNX file. Convert it to TensorFlow"
    if ".data-0" in path.name or path.suffix in (".index", ".ckpt"):
        return "a training checkpoint, which contains no model. Load it into its model, and save the model"
    return "a file that is none of them. Check teacher.path"


def _damaged(path: Path, ending: str, error: Exception) -> TeacherError:
    return TeacherError(
        f"teacher {path} must be a whole {ending} file; got one that is cut short or damaged "
        f"({_first_line(error)}). Copy it again from its source."
    )


def _unreadable_config(path: Path, error: Exception) -> TeacherError:
    return TeacherError(
        f"teacher {path} must contain a readable Keras configuration; got {_first_line(error)}. Save the model again."
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__).rstrip(".")


def no_features(path: str | Path) -> TeacherError:
    """Return the error of a teacher whose layers, and therefore features, are not accessible."""
    return TeacherError(
        f"teacher {path} must be a .keras or .h5 file for its features to be used; "
        "got a SavedModel, whose layers are not accessible. Save it with model.save, or set distill.init: none."
    )
