# SPDX-License-Identifier: Apache-2.0
"""Extracts one student of a family, so that several students can be processed at the same time.

The student keeps its part of the trunk, its tail and its logits, with the layer names of the family. It no longer
shares parameters with the others, and there is no in-place distillation from a larger student.
"""

import tf_keras as keras

from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.quantization.preflight import outputs_of
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.manifests import StudentSetManifest


def single_student(
    family: keras.Model, manifest: StudentSetManifest, student: str
) -> tuple[keras.Model, StudentSetManifest]:
    """Extract one student from a family.

    Args:
        family: Joint model with one output per student of the manifest.
        manifest: Manifest of the set.
        student: Name of the student.

    Returns:
        A model with the output of this student only, and the manifest of a set with this student only.

    Raises:
        FamilyError: The set has no student of this name.
    """
    names = tuple(one.name for one in manifest.students)
    if student not in names:
        raise FamilyError(
            f"student {student!r} must be one of the set, which are {', '.join(names)}. Compile the pipeline again."
        )
    spec = FamilySpec.from_dict(manifest.family_spec).single(student).to_dict() if manifest.family_spec else None
    alone = [one for one in manifest.students if one.name == student]
    return outputs_of(family, names, (student,)), manifest.model_copy(update={"students": alone, "family_spec": spec})
