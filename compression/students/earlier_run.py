# SPDX-License-Identifier: Apache-2.0
"""Students that begin as an earlier run's: `distill.init: FOLDER`.

The shape must be the same, since weights go from layer to layer; only the classes may be others, and then the layers of
the logits begin anew, as in any transfer of what a trunk has learned (Yosinski et al., 1411.1792).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tf_keras as keras

from learn2compress.compression.family.sizing import label_bytes
from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.students.architecture import Architecture, BuiltIn, solve_once
from learn2compress.compression.students.files import load_family, module_of
from learn2compress.modalities.image.modality import image_shape
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.digests import tree_sha256
from learn2compress.schemas.errors import FamilyError, Learn2CompressError, TrainingError
from learn2compress.schemas.manifests import MANIFEST, Initialization, StudentSetManifest, Task, read_manifest
from learn2compress.schemas.module_source import ModuleSource

_SHOWN = 3


def find_students(path: str | Path) -> Path:
    """Finds a `StudentSet`: the folder itself, or what Distiller left last in a run's output folder.

    Raises:
        TrainingError: There is none.
    """
    root = Path(path)
    candidates = [root, *sorted(root.glob("pipeline/Distiller/students/*"), key=_number, reverse=True)]
    for folder in candidates:
        if (folder / MANIFEST).is_file():
            try:
                read_manifest(folder, StudentSetManifest)
            except Learn2CompressError as error:
                raise TrainingError(f"distill.init must hold students of this version; {error}") from error
            return folder
    raise TrainingError(
        f"distill.init must be none, features, or the output folder of an earlier run; got {path}, where there are no "
        "students. Check the path."
    )


def students_sha256(path: str | Path) -> str:
    """The digest of the `StudentSet` that `find_students` finds: the one that lineage has of that artifact."""
    return tree_sha256(find_students(path))


@dataclass(frozen=True)
class EarlierStudents:
    """Students to begin as.

    Attributes:
        folder: Of the `StudentSet`.
        sha256: Of that folder.
        manifest: Its own.
        architecture: Of the students that begin as these: theirs, for the classes of this task.
        new_logits: Whether the classes are others.
    """

    folder: Path
    sha256: str
    manifest: StudentSetManifest
    architecture: Architecture
    new_logits: bool

    def copy_to(self, family: keras.Model) -> Initialization:
        """Puts their weights and batch statistics into a family of `architecture`; logits of other classes stay."""
        theirs = load_family(self.folder, self.manifest)
        logits = {f"{student.name}_logits" for student in self.manifest.students} if self.new_logits else set()
        for layer in family.layers:
            if layer.weights and layer.name not in logits:
                layer.set_weights(theirs.get_layer(layer.name).get_weights())
        return Initialization(kind="students", source_sha256=self.sha256, new_logits=self.new_logits)


def open_earlier(
    path: str | Path,
    wanted: Architecture,
    sizes: Mapping[str, StudentSize],
    task: Task,
    sha256: str | None = None,
) -> EarlierStudents:
    """Opens an earlier run's students and settles what this run's will look like.

    Args:
        path: The output folder of a run, or the folder of a `StudentSet`.
        wanted: The students that this run asks for.
        sizes: By which it asks, where they are the built-in family's.
        task: What is classified.
        sha256: Of the students that the run was begun with, if it is known.

    Raises:
        TrainingError: There are no students, or they have changed.
        FamilyError: They are of another family; the message says what differs.
    """
    folder = find_students(path)
    found = tree_sha256(folder)
    if sha256 is not None and found != sha256:
        raise TrainingError(
            f"the students in {folder} must have the SHA-256 {sha256[:16]}… that they had when the run began; got "
            f"{found[:16]}…. Run again."
        )
    manifest = read_manifest(folder, StudentSetManifest)
    new_logits = manifest.task.classes != task.classes
    if manifest.family_spec is None or wanted.spec is None:
        _check_module(folder, manifest, wanted, task)
        return EarlierStudents(folder, found, manifest, wanted, False)
    theirs = FamilySpec.from_dict(manifest.family_spec)
    # Of other classes the same sizes may be other shapes: what counts is that the sizes are the same.
    asked = solve_once(sizes, image_shape(task), theirs.classes, theirs.label_bytes) if new_logits else wanted.spec
    differences = list(_differences(theirs.to_dict(), asked.to_dict()))
    if differences:
        raise FamilyError(
            f"the students in {folder} must be of the family that is asked for; {'; '.join(differences[:_SHOWN])}"
            f"{' …' if len(differences) > _SHOWN else ''}. Set students.sizes as in that run, or distill.init: none."
        )
    spec = replace(theirs, classes=len(task.classes), label_bytes=label_bytes(task.classes))
    architecture = BuiltIn(spec)
    for name, cost in architecture.costs().items():
        size = sizes[name]
        for figure, limit in ((cost.int8_bytes, size.size_bytes), (cost.macs, size.macs)):
            if limit is not None and figure is not None and figure > limit:
                raise FamilyError(
                    f"student '{name}' must keep within {limit:,}; the one in {folder} has {figure:,} with "
                    f"{len(task.classes)} classes. Raise its budget, or set distill.init: none."
                )
    return EarlierStudents(folder, found, manifest, architecture, new_logits)


def _check_module(folder: Path, manifest: StudentSetManifest, wanted: Architecture, task: Task) -> None:
    """A user's own students have no shape that could be compared: the module and the task must be the same."""
    theirs, there = module_of(folder, manifest), manifest.task
    differ = []
    if bool(theirs) != bool(wanted.source):
        differ.append(f"kind: {_kind(theirs)} there, {_kind(wanted.source)} asked for")
    elif theirs and wanted.source and theirs.sha256 != wanted.source.sha256:
        differ.append(f"module: SHA-256 {theirs.sha256[:16]}… there, {wanted.source.sha256[:16]}… asked for")
    if there.input_shape != task.input_shape:
        differ.append(f"input shape: {there.input_shape} there, {task.input_shape} asked for")
    if len(there.classes) != len(task.classes):
        differ.append(f"classes: {len(there.classes)} there, {len(task.classes)} asked for")
    for label, (before, now) in enumerate(zip(there.classes, task.classes, strict=False)):
        if before != now:
            differ.append(f"class {label}: {before!r} there, {now!r} asked for")
            break
    if differ:
        raise FamilyError(
            f"the students in {folder} must be of the module, input shape and classes that are asked for; "
            f"{'; '.join(differ)}. Set students.module as in that run, or distill.init: none."
        )


def _kind(module: ModuleSource | None) -> str:
    return "a module" if module else "the built-in family"


def _differences(theirs: Any, ours: Any, place: str = "") -> Iterator[str]:
    """Where two descriptions of a family part, in words; classes and their names' bytes are left out."""
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs.keys() == ours.keys():
        here = f"{place} {theirs.get('student') or theirs.get('name') or ''}".strip()
        for key in theirs:
            if key not in ("classes", "label_bytes"):
                yield from _differences(theirs[key], ours[key], f"{here} {key}".strip())
    elif isinstance(theirs, list) and isinstance(ours, list) and isinstance((theirs + ours + [0])[0], dict):
        if len(theirs) != len(ours):
            yield f"{place}: {len(theirs)} there, {len(ours)} asked for"
        for one, other in zip(theirs, ours, strict=False):
            yield from _differences(one, other, place)
    elif theirs != ours:
        yield f"{place}: {theirs} there, {ours} asked for"


def _number(folder: Path) -> int:
    return int(folder.name) if folder.name.isdigit() else -1
