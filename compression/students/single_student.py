# SPDX-License-Identifier: Apache-2.0
"""One student of a family by itself, so that several can be worked on at the same time.

It keeps its part of the trunk, its tail and its logits, under the names that their layers have in the family. From here
on it shares no parameter with the others, and no larger student teaches it.
"""

import tf_keras as keras

from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.quantization.preflight import outputs_of
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.manifests import StudentSetManifest


def single_student(
    family: keras.Model, manifest: StudentSetManifest, student: str
) -> tuple[keras.Model, StudentSetManifest]:
    """Cuts a student out.

    Args:
        family: With an output for each of the manifest's students.
        manifest: Of the set.
        student: The one to keep.

    Returns:
        A model with its output alone, and the manifest as if the set had only this student.

    Raises:
        FamilyError: The set has no student of that name.
    """
    names = tuple(one.name for one in manifest.students)
    if student not in names:
        raise FamilyError(
            f"student {student!r} must be one of the set, which are {', '.join(names)}. Compile the pipeline again."
        )
    spec = FamilySpec.from_dict(manifest.family_spec).alone(student).to_dict() if manifest.family_spec else None
    alone = [one for one in manifest.students if one.name == student]
    return outputs_of(family, names, (student,)), manifest.model_copy(update={"students": alone, "family_spec": spec})
