# SPDX-License-Identifier: Apache-2.0
"""Writes the custom properties of students and of their files, by which ML Metadata describes them."""

from tfx import types

from learn2compress.schemas.manifests import OnDeviceModelSetManifest, StudentSetManifest


def describe_students(artifact: types.Artifact, manifest: StudentSetManifest) -> None:
    """Writes the properties of a `StudentSet`: stage, teacher, initialization, and the figures of each student."""
    artifact.set_string_custom_property("stage", manifest.stage)
    artifact.set_string_custom_property("teacher_sha256", manifest.teacher_sha256)
    artifact.set_string_custom_property("students", ",".join(student.name for student in manifest.students))
    if manifest.initialization:
        artifact.set_string_custom_property("init", manifest.initialization.kind)
        artifact.set_string_custom_property("init_sha256", manifest.initialization.source_sha256)
    for student in manifest.students:
        artifact.set_int_custom_property(f"{student.name}_parameters", student.parameters)
        artifact.set_float_custom_property(f"{student.name}_validation_accuracy", student.validation_accuracy)
        artifact.set_float_custom_property(f"{student.name}_sparsity", student.sparsity)


def describe_models(artifact: types.Artifact, manifest: OnDeviceModelSetManifest) -> None:
    """Writes the properties of an `OnDeviceModelSet`: the name, digest and size of each file."""
    artifact.set_string_custom_property("teacher_sha256", manifest.teacher_sha256)
    artifact.set_string_custom_property("models", ",".join(model.name for model in manifest.models))
    for model in manifest.models:
        key = model.name.replace("-", "_")
        artifact.set_string_custom_property(f"sha256_{key}", model.file.sha256)
        artifact.set_int_custom_property(f"bytes_{key}", model.file.bytes)
