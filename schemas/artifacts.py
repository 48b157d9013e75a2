# SPDX-License-Identifier: Apache-2.0
"""The artifact types that pass between the nodes.

Kubeflow identifies a type by its import path, hence the names; it takes no declared properties, so figures travel as
scalar custom properties, and the rest in `manifest.json` (see schemas/manifests.py).
"""

from tfx.types.artifact import Artifact


class Teacher(Artifact):
    """The user's model, untouched, and what is known of it.

        <uri>/manifest.json        TeacherManifest
        <uri>/model/…              the file or SavedModel folder

    Custom properties: sha256, format, parameters, bytes, validation_accuracy, test_accuracy.
    """

    TYPE_NAME = "learn2compress.Teacher"


class TrainedTeacher(Artifact):
    """The teacher after it was trained jointly with its students; Distiller leaves one with `teacher.mode: joint`.

        <uri>/manifest.json        TrainedTeacherManifest
        <uri>/model/…              the file, in the format of the imported one

    Custom properties: mode, imported_sha256, sha256, format, validation_accuracy, test_accuracy, best_epoch,
    forward_passes.
    """

    TYPE_NAME = "learn2compress.TrainedTeacher"


class TeacherLogits(Artifact):
    """The teacher's logits on K fixed views of each training image, and on the held-out images as they are.

        <uri>/manifest.json                    TeacherLogitsManifest
        <uri>/Split-train/<shard>              a shard for each shard of the examples, the same records in order
        <uri>/Split-validation/<shard>
        <uri>/Split-test/<shard>
        <uri>/features/Split-train/<shard>     where the students begin with the teacher's features
        <uri>/features/Split-unlabeled/<shard>

    TeacherImporter leaves the imported teacher's, Distiller those of a jointly trained one.

    Custom properties: teacher_sha256, data_digest, views, forward_passes.
    """

    TYPE_NAME = "learn2compress.TeacherLogits"


class StudentSet(Artifact):
    """Students of several sizes, in float.

        <uri>/manifest.json            StudentSetManifest
        <uri>/curves.json              loss and accuracy an epoch and student
        <uri>/family/family.h5         while they share parameters
        <uri>/<student>/student.h5

    Custom properties: students, teacher_sha256, stage, <student>_accuracy, <student>_parameters; where they did not
    begin at random also init and init_sha256, of the teacher or of the StudentSet that they began as.
    """

    TYPE_NAME = "learn2compress.StudentSet"


class OnDeviceModelSet(Artifact):
    """The .tflite files: students by variants.

        <uri>/manifest.json            OnDeviceModelSetManifest
        <uri>/curves.json
        <uri>/<student>-<variant>.tflite

    Custom properties: teacher_sha256, sha256_<student>_<variant>, bytes_<student>_<variant>.
    """

    TYPE_NAME = "learn2compress.OnDeviceModelSet"


class ModelEvaluation(Artifact):
    """What was measured of each file.

        <uri>/evaluation.json          Evaluation (schemas/reports.py)
        <uri>/predictions.npz          per model and split: predicted class and confidence of each image
        <uri>/thumbnails.json          small pictures of the test images on which file and teacher differ, by id

    Custom properties: images, accuracy_<student>_<variant>.
    """

    TYPE_NAME = "learn2compress.ModelEvaluation"


class Selection(Artifact):
    """The choice and its reasons.

        <uri>/selection.json           Choice (schemas/reports.py)

    Custom properties: chosen, sha256, objective, validation_accuracy (which chose), test_accuracy.
    """

    TYPE_NAME = "learn2compress.Selection"
