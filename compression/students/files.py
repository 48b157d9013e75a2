# SPDX-License-Identifier: Apache-2.0
"""Writing and reading a set of students: the family as one model, each student as a model of its own, a manifest.

The .h5 format is used because tf_keras cannot read a quantization-aware model back from a .keras file, and one format
for all stages is enough.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tf_keras as keras

from learn2compress.compression.family.model import cut_students
from learn2compress.compression.family.spec import Cost, FamilySpec
from learn2compress.compression.pruning.magnitude import kernel_sparsity
from learn2compress.compression.students.module import custom_layers
from learn2compress.compression.training.curves import write_curves
from learn2compress.compression.training.event_files import write_events
from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import TrainingError
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
) -> StudentSetManifest:
    """Writes a `StudentSet`.

    Args:
        folder: Of the artifact.
        family: With an output for each of the students.
        task: What is classified.
        stage: "distilled" or "pruned".
        teacher_sha256: Of the teacher that they learned from.
        spec: The family's shape; None for students that are a user's own.
        costs: By student, smallest first, in the order of the outputs.
        accuracy: By student, of the Keras model on the validation split.
        curves: The training so far.
        seed: Of the run.
        notes: What a reader of the report should know.
        source: The user's module that the students are of; None for the built-in family.
        preflight: How each layer will come to 8 bits, by student, where that was found out.
        sensitivity: How much each layer matters, where it was measured.
        initialization: What the students began as, if not at random.
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
        curves=write_curves(folder, curves),
        events=write_events(folder, curves),
        seed=seed,
        notes=list(notes),
        sensitivity=sensitivity,
        initialization=initialization,
    )
    write_manifest(folder, manifest)
    return manifest


def student_costs(manifest: StudentSetManifest) -> dict[str, Cost]:
    """What each student weighs and works by its manifest, smallest first."""
    return {s.name: Cost(s.parameters, s.macs, s.predicted_int8_bytes) for s in manifest.students}


def module_of(folder: str | Path, manifest: StudentSetManifest) -> ModuleSource | None:
    """The user's module that the students in a folder are of; None for the built-in family."""
    if manifest.module is None:
        return None
    check_bytes(folder, manifest.module)
    path = Path(folder) / manifest.module.path
    # By bytes: read as text, other line ends would become \n, and the digest another.
    return ModuleSource(path.name, DEFAULT_FUNCTION, path.read_bytes().decode())


def load_family(folder: str | Path, manifest: StudentSetManifest) -> keras.Model:
    """Loads the joint model of a `StudentSet`, layers of a user's own included.

    Raises:
        TrainingError: Its bytes are not those of the manifest, or there is none.
    """
    source = module_of(folder, manifest)
    if manifest.family is None:
        raise TrainingError(f"the students in {folder} must share parameters; they have no joint model. Run Distiller.")
    return load_model(folder, manifest.family, custom_layers(source) if source else None)


def load_model(folder: str | Path, file: File, layers: Mapping[str, type] | None = None) -> keras.Model:
    """Loads a Keras model whose bytes are those of the manifest.

    Args:
        folder: Of the artifact.
        file: The model.
        layers: Of a user's own, by name.

    Raises:
        TrainingError: They are not, for the file was changed after it was written, or it is gone.
    """
    check_bytes(folder, file)
    return keras.models.load_model(Path(folder) / file.path, compile=False, custom_objects=layers)


def check_bytes(folder: str | Path, file: File) -> None:
    """Refuses a file whose bytes are not those of the manifest.

    Raises:
        TrainingError: It was changed after it was written, or it is gone.
    """
    try:
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
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path, include_optimizer=False)


def _write_module(folder: Path, source: ModuleSource) -> File:
    path = folder / "module" / source.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.text.encode())
    return File.of(folder, f"module/{source.name}")
