# SPDX-License-Identifier: Apache-2.0
"""The node that brings the user's model into the pipeline and lets it speak once.

Enters: the examples; parameters name the model's file. Leaves: `Teacher`, the model untouched with what was found out
about it, and `TeacherLogits`, its logits on K fixed views of every training image and on the held-out images as they
are. A teacher that is to be trained along (`teacher.mode: joint`) is asked about the held-out images alone: of the
views, Distiller asks the trained one. Where the students are to begin with its features (`distill.init: features`),
those are written, too, for each view of each training image, which the teacher sees once for both, and of those without
labels. The lineage records: the teacher's SHA-256, format, parameters, bytes, accuracy on validation and test, and the
number of its forward passes.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tfx import types
from tfx.types import standard_artifacts

from learn2compress.components.beam.teacher_inference import (
    FEATURE_PARTS,
    SPLITS,
    accuracy_of,
    ask_teacher,
    move_answers,
    open_teacher,
)
from learn2compress.components.execution.checkpoints import checkpoint_path
from learn2compress.components.node import BeamNodeExecutor, Execution, Node
from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.compression.teacher.features import TeacherFeatures, find_feature_layer
from learn2compress.compression.teacher.fit import check_fit
from learn2compress.compression.teacher.logits import TRIAL_TOLERANCE, ShardCount, trial_accuracy
from learn2compress.compression.training.joint_teacher import check_trainable
from learn2compress.data.batches import iter_numpy, read_examples
from learn2compress.modalities import modality_of
from learn2compress.modalities.protocol import Views
from learn2compress.schemas.artifacts import Teacher, TeacherLogits
from learn2compress.schemas.config import TeacherImportConfig
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.errors import OutputError, TeacherError
from learn2compress.schemas.manifests import (
    DataManifest,
    TeacherFeaturesManifest,
    TeacherLogitsManifest,
    TeacherManifest,
    manifest_sha256,
    read_manifest,
    write_manifest,
)

_CHECKED_IMAGES = 1024


class TeacherImporterExecutor(BeamNodeExecutor):
    """Loads the model, judges it, copies it, and has it answer for all views."""

    def run(self, execution: Execution) -> None:
        config = execution.section("teacher", TeacherImportConfig)
        examples = execution.uri("examples")
        teacher_artifact, logits_artifact = execution.output("teacher"), execution.output("teacher_logits")
        data = read_manifest(examples, DataManifest)

        teacher = open_teacher(config, data.task)
        if config.mode == "joint":
            check_trainable(teacher)
        with_features = bool(execution.parameters["features"])
        features = find_feature_layer(teacher, config.feature_layer) if with_features else None
        fit = check_fit(
            teacher,
            _batches(examples, _CHECKED_IMAGES),
            classes=len(data.task.classes),
            insist=config.allow_near_chance,
        )
        views = modality_of(data.task).views(data.task)
        passed, flip_accuracy, mirrored = self._try_on_teacher(views, config, teacher, examples)
        recipe = views.recipe(config, int(execution.parameters["seed"]), passed)
        model, sha256 = _copy_model(config.path, teacher_artifact.uri, execution.parameters["teacher_sha256"])
        began = time.monotonic()
        # The copy is asked, not the original: the answers are of the model whose digest is recorded.
        copy = config.model_copy(update={"path": f"{teacher_artifact.uri}/{model}"})
        splits = SPLITS if config.mode == "fixed" else SPLITS[1:]
        # Each try has folders of its own; what is answered gathers beside them, so that the next one goes on from it.
        gathered = checkpoint_path(logits_artifact, execution.inputs, execution.parameters).with_suffix("")
        counts = ask_teacher(
            self._make_beam_pipeline(), copy, data, examples, str(gathered), recipe, splits, with_features
        )
        move_answers(gathered, logits_artifact.uri)
        taught = TeacherLogitsManifest(
            teacher_sha256=sha256,
            data_digest=data.digest,
            examples_sha256=manifest_sha256(examples),
            recipe=recipe,
            classes=len(data.task.classes),
            shards={split: data.shards[split] if split in splits else [] for split in SPLITS},
            images={split: counts[split].images if split in splits else 0 for split in SPLITS},
            forward_passes=counts["train"].forward_passes if "train" in splits else 0,
            check_passes=counts["validation"].forward_passes
            + counts["test"].forward_passes
            + fit.images
            + 2 * mirrored,
            flip_accuracy=flip_accuracy,
            seconds=round(time.monotonic() - began, 3),
        )
        if features:
            described = _describe_features(features, data, counts, taught.forward_passes)
            taught = taught.model_copy(update={"features": described})
        write_manifest(logits_artifact.uri, taught)
        manifest = TeacherManifest(
            task=data.task,
            model=model,
            format=teacher.format,
            sha256=sha256,
            bytes=teacher.size_bytes,
            output=teacher.output,
            output_name=config.output,
            signature=config.signature,
            resize=config.resize,
            scaling=config.scaling,
            class_order=config.class_order,
            parameters=teacher.parameters,
            macs=teacher.macs,
            trainable=teacher.trainable,
            accuracy=accuracy_of(counts),
        )
        write_manifest(teacher_artifact.uri, manifest)
        _describe(teacher_artifact, logits_artifact, manifest, taught)

    def _try_on_teacher(
        self, views: Views, config: TeacherImportConfig, teacher: LoadedTeacher, examples: str
    ) -> tuple[bool, float | None, int]:
        """Compares the teacher on a transformation that views hold only if it stays as accurate (images: mirroring).

        Returns:
            Whether it does, its accuracy on transformed examples, and their number.
        """
        transform = views.on_trial(config)
        if transform is None:
            return False, None, 0
        plain, transformed, count = trial_accuracy(teacher, transform, _batches(examples, _CHECKED_IMAGES))
        return transformed >= plain - TRIAL_TOLERANCE, transformed, count


class TeacherImporter(Node):
    """The user's model as `Teacher`, and its `TeacherLogits`.

    Parameters:
        teacher_sha256: `path_sha256` of the model's file or folder, so that a changed one is no cache hit.
        features: 1 where the students are to begin with its features, otherwise 0.
        seed: Seed of the views.
    """

    EXECUTOR = TeacherImporterExecutor
    SECTIONS = {"teacher": TeacherImportConfig}
    PARAMETERS = {"teacher_sha256": str, "features": int, "seed": int}
    INPUTS = {"examples": standard_artifacts.Examples}
    OUTPUTS = {"teacher": Teacher, "teacher_logits": TeacherLogits}


def _describe_features(
    features: TeacherFeatures, data: DataManifest, counts: dict[str, ShardCount], for_logits: int
) -> TeacherFeaturesManifest:
    train, unlabeled = (counts[part] for part in FEATURE_PARTS)
    return TeacherFeaturesManifest(
        layer=features.layer,
        side=features.side,
        width=features.width,
        shards={"train": data.shards["train"], "unlabeled": data.unlabeled.shards if data.unlabeled else []},
        images={"train": train.images, "unlabeled": unlabeled.images},
        forward_passes=train.forward_passes + unlabeled.forward_passes - for_logits,
    )


def _batches(examples: str, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first validation images: their order is random with respect to content."""
    seen = 0
    for batch in iter_numpy(read_examples(examples, "validation", min(most, 256))):
        yield batch["example"][: most - seen], batch["label"][: most - seen]
        seen += len(batch["label"])
        if seen >= most:
            return


def _copy_model(path: str, uri: str, expected_sha256: str) -> tuple[str, str]:
    """Copies the model as it is; returns its place in the artifact and its digest.

    Raises:
        TeacherError: It is not the model whose digest was asked for: it changed since the run began.
        OutputError: There is no room for it.
    """
    source = Path(path)
    target = Path(uri) / "model" / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
    except (OSError, shutil.Error) as error:
        raise OutputError(f"teacher {path} must be copied to {target}; {error}. Free some space.") from error
    sha256 = path_sha256(target)
    if sha256 != expected_sha256:
        raise TeacherError(
            f"teacher {path} must have the SHA-256 {expected_sha256[:16]}… that it had when the run began; got "
            f"{sha256[:16]}…. Run again."
        )
    return f"model/{source.name}", sha256


def _describe(
    teacher: types.Artifact, logits: types.Artifact, manifest: TeacherManifest, taught: TeacherLogitsManifest
) -> None:
    teacher.set_string_custom_property("sha256", manifest.sha256)
    teacher.set_string_custom_property("format", manifest.format)
    teacher.set_int_custom_property("bytes", manifest.bytes)
    if manifest.parameters is not None:
        teacher.set_int_custom_property("parameters", manifest.parameters)
    for split, accuracy in manifest.accuracy.items():
        teacher.set_float_custom_property(f"{split}_accuracy", accuracy)
    logits.set_string_custom_property("teacher_sha256", taught.teacher_sha256)
    logits.set_string_custom_property("data_digest", taught.data_digest)
    logits.set_int_custom_property("views", taught.recipe.count)
    logits.set_int_custom_property("forward_passes", taught.forward_passes)
    if taught.features:
        logits.set_string_custom_property("feature_layer", taught.features.layer)
        logits.set_int_custom_property("feature_passes", taught.features.forward_passes)
