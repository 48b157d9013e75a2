# SPDX-License-Identifier: Apache-2.0
"""Writes and reads a set of students: the family as one model, each student as a separate model, and a manifest.

All stages use the .h5 format, since tf_keras cannot read a quantization-aware model from a .keras file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py  # comes with Keras
import tf_keras as keras

from learn2compress.compression.family.model import cut_students
from learn2compress.compression.family.spec import Cost, FamilySpec
from learn2compress.compression.pruning.magnitude import kernel_sparsity
from learn2compress.compression.students.module import custom_layers
from learn2compress.compression.training.history.curves import write_curves
from learn2compress.compression.training.history.event_files import write_events
from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import TrainingError
from learn2compress.schemas.files.inside import path_inside
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.manifests import (
    Epoch,
    File,
    Initialization,
    LayerQuantization,
    Sensitivity,
    Student,
    StudentSetManifest,
    Task,
    write_manifest,
)
from learn2compress.schemas.module_source import DEFAULT_FUNCTION, ModuleSource

FAMILY_FILE = "family/family.h5"
DICTIONARY_FILE = "dictionary.json"


def write_students(
    folder: str | Path,
    family: keras.Model,
    *,
    task: Task,
    stage: str,
    teacher_sha256: str,
    spec: FamilySpec | None,
    costs: Mapping[str, Cost],
    accuracy: Mapping[str, float],
    curves: Sequence[Epoch],
    seed: int,
    notes: Sequence[str] = (),
    source: ModuleSource | None = None,
    preflight: Mapping[str, Sequence[LayerQuantization]] | None = None,
    sensitivity: Sensitivity | None = None,
    initialization: Initialization | None = None,
    dictionary: bytes | None = None,
    trunk: Mapping[str, Any] | None = None,
) -> StudentSetManifest:
    """Write a `StudentSet`.

    Args:
        folder: Artifact directory.
        family: Joint model with one output per student.
        task: The classification task.
        stage: "distilled" or "pruned".
        teacher_sha256: Digest of the teacher.
        spec: Specification of the family; None for students of a user's module.
        costs: Costs by student, smallest first, in the order of the outputs.
        accuracy: Accuracy by student, of the Keras model on the validation split.
        curves: Training curves of all epochs so far.
        seed: Seed of the run.
        notes: Notes for the reader of the report.
        source: Source of the user's module; None for the built-in family.
        preflight: Quantization method of each layer, by student, if it was tested.
        sensitivity: Sensitivity of each layer, if it was measured.
        initialization: Source of the initial weights; None if they were random.
        dictionary: Dictionary of students of texts; None for other students.
        trunk: Specification of students that are cut out of the teacher's network.

    Returns:
        The manifest that was written.
    """
    folder = Path(folder)
    _save(family, folder / FAMILY_FILE)
    students = []
    for name, model in cut_students(family, tuple(costs)).items():
        path = f"{name}/student.h5"
        _save(model, folder / path)
        students.append(
            Student(
                name=name,
                model=File.of(folder, path),
                parameters=costs[name].parameters,
                macs=costs[name].macs,
                predicted_int8_bytes=costs[name].int8_bytes,
                validation_accuracy=accuracy[name],
                sparsity=kernel_sparsity(model),
                preflight=list((preflight or {}).get(name, ())),
            )
        )
    manifest = StudentSetManifest(
        task=task,
        stage=stage,
        normalization=modality_of(task).student_input.normalization,
        teacher_sha256=teacher_sha256,
        students=students,
        family=File.of(folder, FAMILY_FILE),
        family_spec=spec.to_dict() if spec else None,
        module=_write_module(folder, source) if source else None,
        trunk=dict(trunk) if trunk else None,
        curves=write_curves(folder, curves),
        events=write_events(folder, curves),
        seed=seed,
        notes=list(notes),
        sensitivity=sensitivity,
        initialization=initialization,
        dictionary=_write_dictionary(folder, dictionary) if dictionary is not None else None,
    )
    write_manifest(folder, manifest)
    return manifest


def student_costs(manifest: StudentSetManifest) -> dict[str, Cost]:
    """Return the costs of each student from the manifest, smallest first."""
    return {s.name: Cost(s.parameters, s.macs, s.predicted_int8_bytes) for s in manifest.students}


def module_of(folder: str | Path, manifest: StudentSetManifest) -> ModuleSource | None:
    """Read the source of the user's module that the students in a folder come from; None for the built-in family."""
    if manifest.module is None:
        return None
    check_bytes(folder, manifest.module)
    path = Path(folder) / manifest.module.path
    # Read as bytes, since text mode would replace other line ends by \n and thus change the digest.
    return ModuleSource(path.name, DEFAULT_FUNCTION, path.read_bytes().decode())


def dictionary_of(folder: str | Path, manifest: StudentSetManifest) -> bytes | None:
    """Read the dictionary of the students in a folder; None if they have none.

    Raises:
        TrainingError: The bytes differ from the manifest.
    """
    if manifest.dictionary is None:
        return None
    check_bytes(folder, manifest.dictionary)
    return (Path(folder) / manifest.dictionary.path).read_bytes()


def load_family(folder: str | Path, manifest: StudentSetManifest) -> keras.Model:
    """Load the joint model of a `StudentSet`, including layers that a user's module defines.

    Args:
        folder: Artifact directory.
        manifest: Manifest of the `StudentSet`.

    Returns:
        A model with one output of logits [batch, classes] float32 per student.

    Raises:
        TrainingError: The bytes differ from the manifest, or there is no joint model.
    """
    source = module_of(folder, manifest)
    if manifest.family is None:
        raise TrainingError(f"the students in {folder} must share parameters; they have no joint model. Run Distiller.")
    return load_model(folder, manifest.family, custom_layers(source) if source else None)


def load_model(folder: str | Path, file: File, layers: Mapping[str, type] | None = None) -> keras.Model:
    """Load a Keras model after checking its bytes against the manifest.

    Args:
        folder: Artifact directory.
        file: The file of the model, from the manifest.
        layers: Layer classes that a user's module defines, by name.

    Raises:
        TrainingError: The file was changed after it was written, or does not exist.
    """
    check_bytes(folder, file)
    return keras.models.load_model(Path(folder) / file.path, compile=False, custom_objects=layers)


def check_bytes(folder: str | Path, file: File) -> None:
    """Check the bytes of a file against the manifest.

    Args:
        folder: Artifact directory.
        file: The file, from the manifest.

    Raises:
        TrainingError: The file was changed after it was written, or does not exist.
    """
    try:
        path_inside(folder, file.path)
        found = File.of(Path(folder), file.path)
    except OSError as error:
        raise TrainingError(
            f"{folder}/{file.path} must be readable; {error.strerror}. Delete the output folder and run again."
        ) from error
    if found.sha256 != file.sha256:
        raise TrainingError(
            f"{folder}/{file.path} must have the SHA-256 {file.sha256[:16]}… of its manifest; got {found.sha256[:16]}…."
            " Delete the output folder and run again."
        )


def _save(model: keras.Model, path: Path) -> None:
    """Save a model as HDF5. The file is made in memory, since the HDF5 library ends the process on a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        model.save(file, include_optimizer=False)
        file.flush()
        write_whole(path, file.id.get_file_image())


def _write_dictionary(folder: Path, content: bytes) -> File:
    write_whole(folder / DICTIONARY_FILE, content)
    return File.of(folder, DICTIONARY_FILE)


def _write_module(folder: Path, source: ModuleSource) -> File:
    path = folder / "module" / source.name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, source.text)
    return File.of(folder, f"module/{source.name}")
