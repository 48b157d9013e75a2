# SPDX-License-Identifier: Apache-2.0
"""Combines sets of one student each: copies their files unchanged, and merges manifests and training curves."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from learn2compress.compression.students.files import check_bytes
from learn2compress.compression.training.history.curves import read_curves, write_curves
from learn2compress.compression.training.history.event_files import write_events
from learn2compress.schemas.files.whole import copy_whole
from learn2compress.schemas.manifests import (
    Epoch,
    File,
    OnDeviceModelSetManifest,
    Sensitivity,
    StudentSetManifest,
    read_manifest,
    write_manifest,
)

_STAGES = get_args(Epoch.model_fields["stage"].annotation)


def collect_students(folders: Iterable[str | Path], target: str | Path) -> StudentSetManifest:
    """Combine the students of several sets in one `StudentSet`, which has no joint model.

    Args:
        folders: Artifact directories of sets that come from the same family.
        target: Artifact directory of the new set.

    Raises:
        TrainingError: The bytes of a file differ from its manifest.
    """
    sets = {Path(folder): read_manifest(folder, StudentSetManifest) for folder in folders}
    ordered = sorted(sets.items(), key=lambda one: (one[1].students[0].macs, one[1].students[0].parameters))
    for folder, one in ordered:
        _copy(folder, Path(target), [student.model for student in one.students])
    measured = [one.sensitivity for _, one in ordered if one.sensitivity is not None]
    curves = merge_curves([read_curves(folder) for folder, _ in ordered])
    manifest = ordered[0][1].model_copy(
        update={
            "students": [student for _, one in ordered for student in one.students],
            "family": None,
            "family_spec": None,
            "curves": write_curves(Path(target), curves),
            "events": write_events(target, curves),
            "notes": merge_notes({one.students[0].name: one.notes for _, one in ordered}),
            "sensitivity": _merge_sensitivity(measured) if measured else None,
        }
    )
    write_manifest(target, manifest)
    return manifest


def collect_models(
    folders: Mapping[str, str | Path], target: str | Path, students: Sequence[str]
) -> OnDeviceModelSetManifest:
    """Combine the files of several sets in one `OnDeviceModelSet`; conversions of the teacher come last.

    Args:
        folders: Artifact directories by student.
        target: Artifact directory of the new set.
        students: Names of the students, in the order of the files.

    Raises:
        TrainingError: The bytes of a file differ from its manifest.
    """
    sets = {student: read_manifest(folders[student], OnDeviceModelSetManifest) for student in students}
    for student, one in sets.items():
        _copy(Path(folders[student]), Path(target), [model.file for model in one.models])
    models = [model for one in sets.values() for model in one.models]
    curves = merge_curves([read_curves(folders[student]) for student in students])
    manifest = sets[students[0]].model_copy(
        update={
            "models": sorted(models, key=lambda model: model.baseline),
            "curves": write_curves(Path(target), curves),
            "events": write_events(target, curves),
            "notes": merge_notes({student: one.notes for student, one in sets.items()}),
            "quantization_error": [error for one in sets.values() for error in one.quantization_error],
        }
    )
    write_manifest(target, manifest)
    return manifest


def merge_curves(curves: Sequence[Sequence[Epoch]]) -> list[Epoch]:
    """Merge the curves of trainings with a common start: equal epochs are kept once, others are combined.

    Seconds are added, so they are the total computing time rather than the elapsed time.
    """
    merged: dict[tuple[int, int], Epoch] = {}
    for one in curves:
        for epoch in one:
            key = (_STAGES.index(epoch.stage), epoch.epoch)
            known = merged.setdefault(key, epoch)
            if known != epoch:
                update = {
                    "loss": {**known.loss, **epoch.loss},
                    "accuracy": {**known.accuracy, **epoch.accuracy},
                    "seconds": known.seconds + epoch.seconds,
                }
                merged[key] = known.model_copy(update=update)
    return [merged[key] for key in sorted(merged)]


def merge_notes(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Merge the notes of the students: notes common to all are kept once, others are prefixed by the student's name."""
    shared = [note for note in next(iter(notes.values())) if all(note in others for others in notes.values())]
    return shared + [f"{student}: {note}" for student, own in notes.items() for note in own if note not in shared]


def _merge_sensitivity(measured: Sequence[Sensitivity]) -> Sensitivity:
    layers = [layer for one in measured for layer in one.layers]
    channels = [group for one in measured for group in one.channels]
    return measured[0].model_copy(update={"layers": layers, "channels": channels})


def _copy(source: Path, target: Path, files: Iterable[File]) -> None:
    for file in files:
        check_bytes(source, file)
        (target / file.path).parent.mkdir(parents=True, exist_ok=True)
        copy_whole(source / file.path, target / file.path)
