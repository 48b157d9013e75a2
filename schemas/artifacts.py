# SPDX-License-Identifier: Apache-2.0
"""The artifact types that pass between the nodes.

Kubeflow identifies a type by its import path, hence the names. It does not support declared properties, so figures are
scalar custom properties, and everything else is in `manifest.json` (see schemas/manifests.py).
"""

from tfx.types.artifact import Artifact


class Teacher(Artifact):
    """The user's model, unchanged, and its description.

        <uri>/manifest.json        TeacherManifest
        <uri>/model/…              file or SavedModel folder

    Custom properties: sha256, format, parameters, bytes, validation_accuracy, test_accuracy.
    """

    TYPE_NAME = "learn2compress.Teacher"


class TrainedTeacher(Artifact):
    """The teacher after joint training with its students; the Distiller writes one with `teacher.mode: joint`.

        <uri>/manifest.json        TrainedTeacherManifest
        <uri>/model/…              file in the format of the imported one

    Custom properties: mode, imported_sha256, sha256, format, validation_accuracy, test_accuracy, best_epoch,
    forward_passes.
    """

    TYPE_NAME = "learn2compress.TrainedTeacher"


class TeacherLogits(Artifact):
    """The teacher's logits on K fixed views of each training image, and on the unchanged held-out images.

        <uri>/manifest.json                    TeacherLogitsManifest
        <uri>/Split-train/<shard>              a shard for each shard of the examples, with the same records in order
        <uri>/Split-validation/<shard>
        <uri>/Split-test/<shard>
        <uri>/features/Split-train/<shard>     if the students are initialized with the teacher's features
        <uri>/features/Split-unlabeled/<shard>

    TeacherImporter writes the logits of the imported teacher, Distiller those of a jointly trained one.

    Custom properties: teacher_sha256, data_digest, views, forward_passes.
    """

    TYPE_NAME = "learn2compress.TeacherLogits"


class StudentSet(Artifact):
    """Students of several sizes, in float.

        <uri>/manifest.json            StudentSetManifest
        <uri>/curves.json              loss and accuracy by epoch and student
        <uri>/family/family.h5         if they share parameters
        <uri>/<student>/student.h5

    Custom properties: students, teacher_sha256, stage, <student>_accuracy, <student>_parameters; if they were not
    initialized at random also init, and init_sha256 of the teacher or of the StudentSet that they were initialized
    from.
    """

    TYPE_NAME = "learn2compress.StudentSet"


class OnDeviceModelSet(Artifact):
    """The .tflite files, one for each student and variant.

        <uri>/manifest.json            OnDeviceModelSetManifest
        <uri>/curves.json
        <uri>/<student>-<variant>.tflite

    Custom properties: teacher_sha256, sha256_<student>_<variant>, bytes_<student>_<variant>.
    """

    TYPE_NAME = "learn2compress.OnDeviceModelSet"


class ModelEvaluation(Artifact):
    """The measured figures of each file.

        <uri>/evaluation.json          Evaluation (schemas/reports.py)
        <uri>/predictions.npz          predicted class and confidence of each image, by model and split
        <uri>/thumbnails.json          thumbnails of the test images on which file and teacher differ, by id

    Custom properties: images, accuracy_<student>_<variant>.
    """

    TYPE_NAME = "learn2compress.ModelEvaluation"


class Selection(Artifact):
    """The chosen file and the reasons of the choice.

        <uri>/selection.json           Choice (schemas/reports.py)

    Custom properties: chosen, sha256, objective, validation_accuracy (which decided), test_accuracy.
    """

    TYPE_NAME = "learn2compress.Selection"
