# SPDX-License-Identifier: Apache-2.0
"""Students that are initialized from those of an earlier run: `distill.init: FOLDER`.

The specification must be equal, since weights are copied layer by layer. Only the classes may differ; the logits layers
are then initialized at random, as is usual in transfer learning (Yosinski et al., arXiv:1411.1792).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tf_keras as keras

from learn2compress.compression.family.sizing import label_bytes
from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.students.architecture import Architecture, BuiltIn, solve_once
from learn2compress.compression.students.files import check_bytes, load_model, module_of
from learn2compress.compression.students.module import custom_layers
from learn2compress.compression.teacher.formats import describe_file
from learn2compress.compression.teacher.trust import check_layers
from learn2compress.modalities.image.modality import image_shape
from learn2compress.schemas.config import Blocks, StudentSize
from learn2compress.schemas.digests import tree_sha256
from learn2compress.schemas.errors import FamilyError, Learn2CompressError, TrainingError
from learn2compress.schemas.manifests import MANIFEST, Initialization, StudentSetManifest, Task, read_manifest
from learn2compress.schemas.module_source import ModuleSource

_SHOWN = 3


def find_students(path: str | Path) -> Path:
    """Find a `StudentSet`: the folder itself, or the most recent output of Distiller in a run's output folder.

    Args:
        path: Artifact directory of a `StudentSet`, or output folder of a run.

    Raises:
        TrainingError: No `StudentSet` was found.
    """
    root = Path(path)
    candidates = [root, *sorted(root.glob("pipeline/Distiller/students/*"), key=_number, reverse=True)]
    for folder in candidates:
        if (folder / MANIFEST).is_file():
            try:
                read_manifest(folder, StudentSetManifest)
            except Learn2CompressError as error:
                raise TrainingError(f"distill.init must contain students of this version; {error}") from error
            return folder
    raise TrainingError(
        f"distill.init must be none, features, or the output folder of an earlier run; got {path}, where there are no "
        "students. Check the path."
    )


def students_sha256(path: str | Path) -> str:
    """Compute the digest of the `StudentSet` that `find_students` finds, which is also that in its lineage record."""
    return tree_sha256(find_students(path))


@dataclass(frozen=True)
class EarlierStudents:
    """Students of an earlier run that provide the initial weights.

    Attributes:
        folder: Artifact directory of the `StudentSet`.
        sha256: Digest of this directory.
        manifest: Manifest of the `StudentSet`.
        architecture: Architecture of the new students: that of the earlier ones with the classes of this task.
        new_logits: Whether the classes differ, so that the logits layers are initialized at random.
    """

    folder: Path
    sha256: str
    manifest: StudentSetManifest
    architecture: Architecture
    new_logits: bool

    def copy_to(self, family: keras.Model) -> Initialization:
        """Copy the weights and batch statistics to a family of `architecture`, except for logits of other classes.

        Args:
            family: Joint model of `architecture`.

        Returns:
            The initialization as recorded in the manifest.
        """
        theirs = self._load()
        logits = {f"{student.name}_logits" for student in self.manifest.students} if self.new_logits else set()
        for layer in family.layers:
            if layer.weights and layer.name not in logits:
                layer.set_weights(theirs.get_layer(layer.name).get_weights())
        return Initialization(kind="students", source_sha256=self.sha256, new_logits=self.new_logits)

    def _load(self) -> keras.Model:
        """Load the joint model, which may be someone else's: only the requested module is run, never one beside it."""
        file, source = self.manifest.family, self.architecture.source
        if file is None:
            raise TrainingError(f"the students in {self.folder} must share parameters; they have no joint model.")
        check_bytes(self.folder, file)
        check_layers(describe_file(self.folder / file.path))
        return load_model(self.folder, file, custom_layers(source) if source else None)


def open_earlier(
    path: str | Path,
    wanted: Architecture,
    sizes: Mapping[str, StudentSize],
    task: Task,
    sha256: str | None = None,
    blocks: Blocks | None = None,
) -> EarlierStudents:
    """Open the students of an earlier run and determine the architecture of the new ones.

    Args:
        path: Output folder of a run, or artifact directory of a `StudentSet`.
        wanted: The students that this run requests.
        sizes: Requested sizes of the built-in family.
        task: The classification task.
        sha256: Digest of the students when the run was started, if it is known.
        blocks: Requested kinds of block of the built-in family.

    Raises:
        TrainingError: There are no students, or they have changed.
        FamilyError: They are of another family; the message gives the difference.
    """
    folder = find_students(path)
    found = tree_sha256(folder)
    if sha256 is not None and found != sha256:
        raise TrainingError(
            f"the students in {folder} must have the SHA-256 {sha256[:16]}… that they had at the start of the run; got "
            f"{found[:16]}…. Run again."
        )
    manifest = read_manifest(folder, StudentSetManifest)
    new_logits = manifest.task.classes != task.classes
    if manifest.family_spec is None or wanted.spec is None:
        _check_module(folder, manifest, wanted, task)
        return EarlierStudents(folder, found, manifest, wanted, False)
    theirs = FamilySpec.from_dict(manifest.family_spec)
    # With other classes, equal sizes may lead to other widths, so the sizes are compared for the earlier classes.
    latency = wanted.latency if isinstance(wanted, BuiltIn) else None
    requested = wanted.spec
    if new_logits:
        requested = solve_once(sizes, image_shape(task), theirs.classes, theirs.label_bytes, blocks, latency)
    differences = list(_differences(theirs.to_dict(), requested.to_dict()))
    if differences:
        raise FamilyError(
            f"the students in {folder} must be of the family that is requested; {'; '.join(differences[:_SHOWN])}"
            f"{' …' if len(differences) > _SHOWN else ''}. Set students.sizes and students.blocks as "
            "in that run, or distill.init: none."
        )
    spec = replace(theirs, classes=len(task.classes), label_bytes=label_bytes(task.classes))
    architecture = BuiltIn(spec, latency)
    for name, cost in architecture.costs().items():
        size = sizes[name]
        limits = (cost.int8_bytes, size.size_bytes), (cost.macs, size.macs), (cost.latency_ms, size.latency_ms)
        for figure, limit in limits:
            if limit is not None and figure is not None and figure > limit:
                raise FamilyError(
                    f"student '{name}' must not exceed {limit:,}; the one in {folder} has {figure:,} with "
                    f"{len(task.classes)} classes. Raise its budget, or set distill.init: none."
                )
    return EarlierStudents(folder, found, manifest, architecture, new_logits)


def _check_module(folder: Path, manifest: StudentSetManifest, wanted: Architecture, task: Task) -> None:
    """Check the module and the task for equality, since students of a module have no specification to compare."""
    theirs, there = module_of(folder, manifest), manifest.task
    differ = []
    if bool(theirs) != bool(wanted.source):
        differ.append(f"kind: {_kind(theirs)} there, {_kind(wanted.source)} requested")
    elif theirs and wanted.source and theirs.sha256 != wanted.source.sha256:
        differ.append(f"module: SHA-256 {theirs.sha256[:16]}… there, {wanted.source.sha256[:16]}… requested")
    if there.input_shape != task.input_shape:
        differ.append(f"input shape: {there.input_shape} there, {task.input_shape} requested")
    if len(there.classes) != len(task.classes):
        differ.append(f"classes: {len(there.classes)} there, {len(task.classes)} requested")
    for label, (before, now) in enumerate(zip(there.classes, task.classes, strict=False)):
        if before != now:
            differ.append(f"class {label}: {before!r} there, {now!r} requested")
            break
    if differ:
        raise FamilyError(
            f"the students in {folder} must be of the module, input shape and classes that are requested; "
            f"{'; '.join(differ)}. Set students.module as in that run, or distill.init: none."
        )


def _kind(module: ModuleSource | None) -> str:
    return "a module" if module else "the built-in family"


def _differences(theirs: Any, ours: Any, place: str = "") -> Iterator[str]:
    """Describe the differences of two specifications of a family, except for classes and the bytes of their names."""
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs.keys() == ours.keys():
        here = f"{place} {theirs.get('student') or theirs.get('name') or ''}".strip()
        for key in theirs:
            if key not in ("classes", "label_bytes"):
                yield from _differences(theirs[key], ours[key], f"{here} {key}".strip())
    elif isinstance(theirs, list) and isinstance(ours, list) and isinstance((theirs + ours + [0])[0], dict):
        if len(theirs) != len(ours):
            yield f"{place}: {len(theirs)} there, {len(ours)} requested"
        for one, other in zip(theirs, ours, strict=False):
            yield from _differences(one, other, place)
    elif theirs != ours:
        yield f"{place}: {theirs} there, {ours} requested"


def _number(folder: Path) -> int:
    return int(folder.name) if folder.name.isdigit() else -1
