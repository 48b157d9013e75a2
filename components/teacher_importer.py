# SPDX-License-Identifier: Apache-2.0
"""Imports the user's model in a TFX node, and runs inference with it once.

Inputs: the examples; parameters name the model's file. Outputs: `Teacher`, the unchanged model with its description,
and `TeacherLogits`, its logits on K fixed views of every training image and on the unchanged held-out images. With a
jointly trained teacher (`teacher.mode: joint`) inference runs on the held-out images only; Distiller computes the
logits on the views with the trained teacher. If the students first learn the teacher's features (`distill.init:
features`), features are written as well, for each view of the training images and of the images without labels; logits
and features of a view come from one forward pass. The lineage records the teacher's SHA-256, format, parameters, bytes,
accuracy on validation and test, and the number of its forward passes.
"""

import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tfx import types
from tfx.types import standard_artifacts

from learn2compress.components.beam.teacher_inference import (
    FEATURE_PARTS,
    SPLITS,
    accuracy_of,
    move_outputs,
    run_teacher_inference,
)
from learn2compress.components.execution.checkpoints import checkpoint_path
from learn2compress.components.node import BeamNodeExecutor, Execution, Node
from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.compression.teacher.configured import open_teacher
from learn2compress.compression.teacher.features import TeacherFeatures, find_feature_layer
from learn2compress.compression.teacher.fit import check_fit
from learn2compress.compression.teacher.logits import TRIAL_TOLERANCE, ShardCount, trial_accuracy
from learn2compress.compression.training.joint_teacher import check_trainable
from learn2compress.data.batches import iter_numpy, read_examples
from learn2compress.evaluation.examination.fit import knows_validation
from learn2compress.modalities import modality_of
from learn2compress.modalities.protocol import Views
from learn2compress.schemas.artifacts import Teacher, TeacherLogits
from learn2compress.schemas.config import TeacherImportConfig
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.errors import OutputError, TeacherError
from learn2compress.schemas.files.whole import copy_whole
from learn2compress.schemas.manifests import (
    DataManifest,
    File,
    Split,
    TeacherFeaturesManifest,
    TeacherLogitsManifest,
    TeacherManifest,
    manifest_sha256,
    read_manifest,
    write_manifest,
)

_CHECKED_IMAGES = 1024
_LOGGER = logging.getLogger(__name__)


class TeacherImporterExecutor(BeamNodeExecutor):
    """Loads the model, checks it, copies it, and runs inference on all views."""

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
            allow_near_chance=config.allow_near_chance,
        )
        encoding = _copy_encoding(config, teacher_artifact.uri, execution.parameters.get("encoding_sha256"))
        views = modality_of(data.task).views(data.task)
        passed, flip_accuracy, mirrored = self._measure_transformation(views, config, teacher, examples)
        recipe = views.recipe(config, int(execution.parameters["seed"]), passed)
        model, sha256 = _copy_model(config.path, teacher_artifact.uri, execution.parameters["teacher_sha256"])
        began = time.monotonic()
        # Inference uses the copy, not the original, so that the logits belong to the recorded digest.
        copies = {field: f"{teacher_artifact.uri}/{file.path}" for field, file in encoding.items()}
        copy = config.model_copy(update={"path": f"{teacher_artifact.uri}/{model}", **copies})
        splits = SPLITS if config.mode == "fixed" else SPLITS[1:]
        with_unlabeled = bool(execution.parameters.get("unlabeled_logits")) and data.unlabeled is not None
        # Each attempt has new output folders; finished shards are collected beside them, so that the next one resumes.
        collected = checkpoint_path(logits_artifact, execution.inputs, execution.parameters).with_suffix("")
        counts = run_teacher_inference(
            self._make_beam_pipeline(),
            copy,
            data,
            examples,
            str(collected),
            recipe,
            splits,
            with_features,
            with_unlabeled,
            key=collected.name,
        )
        move_outputs(collected, logits_artifact.uri)
        logits_manifest = TeacherLogitsManifest(
            teacher_sha256=sha256,
            data_digest=data.digest,
            examples_sha256=manifest_sha256(examples),
            recipe=recipe,
            classes=len(data.task.classes),
            shards={split: data.shards[split] if split in splits else [] for split in SPLITS},
            images={split: counts[split].images if split in splits else 0 for split in SPLITS},
            forward_passes=(counts["train"].forward_passes if "train" in splits else 0)
            + (counts["unlabeled"].forward_passes if with_unlabeled else 0),
            check_passes=counts["validation"].forward_passes
            + counts["test"].forward_passes
            + fit.passes
            + 2 * mirrored,
            flip_accuracy=flip_accuracy,
            seconds=round(time.monotonic() - began, 3),
            unlabeled=data.unlabeled if with_unlabeled else None,
        )
        if features:
            described = _describe_features(features, data, counts, logits_manifest.forward_passes)
            logits_manifest = logits_manifest.model_copy(update={"features": described})
        write_manifest(logits_artifact.uri, logits_manifest)
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
            class_order=None if teacher.class_order is None else list(teacher.class_order),
            **encoding,
            parameters=teacher.parameters,
            macs=teacher.macs,
            trainable=teacher.trainable,
            accuracy=accuracy_of(counts),
            notes=[*fit.hints, *tell_known_validation(accuracy_of(counts), data.counts)],
        )
        for note in manifest.notes:
            _LOGGER.warning("teacher %s: %s", config.path, note)
        write_manifest(teacher_artifact.uri, manifest)
        _describe(teacher_artifact, logits_artifact, manifest, logits_manifest)

    def _measure_transformation(
        self, views: Views, config: TeacherImportConfig, teacher: LoadedTeacher, examples: str
    ) -> tuple[bool, float | None, int]:
        """Measures the teacher on the transformation that views contain only if it keeps its accuracy (mirroring).

        Returns:
            Whether it keeps its accuracy, its accuracy on transformed examples, and their number.
        """
        transform = views.on_trial(config)
        if transform is None:
            return False, None, 0
        plain, transformed, count = trial_accuracy(teacher, transform, _batches(examples, _CHECKED_IMAGES))
        return transformed >= plain - TRIAL_TOLERANCE, transformed, count


class TeacherImporter(Node):
    """Makes a `Teacher` of the user's model, and its `TeacherLogits`.

    Parameters:
        teacher_sha256: `path_sha256` of the model's file or folder, so that a changed one is no cache hit.
        encoding_sha256: Digest of the teacher's tokenizer or vocabulary; left out without one.
        features: 1 if the students first learn the teacher's features, otherwise 0.
        unlabeled_logits: 1 if the students learn the teacher's logits on examples without labels; otherwise left out.
        seed: Seed of the views.
    """

    EXECUTOR = TeacherImporterExecutor
    SECTIONS = {"teacher": TeacherImportConfig}
    PARAMETERS = {
        "teacher_sha256": str,
        "encoding_sha256": str,
        "features": int,
        "unlabeled_logits": int,
        "seed": int,
    }
    INPUTS = {"examples": standard_artifacts.Examples}
    OUTPUTS = {"teacher": Teacher, "teacher_logits": TeacherLogits}
    OPTIONAL = ("encoding_sha256", "unlabeled_logits")


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


def tell_known_validation(accuracy: Mapping[Split, float], counts: Mapping[Split, int]) -> Iterator[str]:
    """Says so where a teacher does better on validation images than on test images by more than chance explains."""
    if knows_validation(accuracy["validation"], counts["validation"], accuracy["test"], counts["test"]):
        yield (
            f"it scores {accuracy['validation']:.1%} on validation images and {accuracy['test']:.1%} on test images: "
            "it seems to have been trained on the validation images, so that figures on them flatter it"
        )


def _batches(examples: str, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Streams the first validation images; their order is random with respect to content."""
    seen = 0
    for batch in iter_numpy(read_examples(examples, "validation", min(most, 256))):
        yield batch["example"][: most - seen], batch["label"][: most - seen]
        seen += len(batch["label"])
        if seen >= most:
            return


def _copy_model(path: str, uri: str, expected_sha256: str) -> tuple[str, str]:
    """Copies the model unchanged; returns its path in the artifact and its digest.

    Raises:
        TeacherError: The digest is not the expected one, because the model has changed since the run began.
        OutputError: The model cannot be copied, for instance because the disk is full.
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


def _copy_encoding(config: TeacherImportConfig, uri: str, expected_sha256: str | None) -> dict[str, File]:
    """Copies the teacher's tokenizer or vocabulary into the artifact; returns it by field.

    Raises:
        TeacherError: It cannot be read, or has changed since the run began.
    """
    copied = {}
    for field in ("tokenizer", "vocabulary"):
        path = getattr(config, field)
        if path is None:
            continue
        name = f"encoding/{Path(path).name}"
        Path(uri, "encoding").mkdir(parents=True, exist_ok=True)
        try:
            copy_whole(Path(path), Path(uri, name))
        except OSError as error:
            raise TeacherError(
                f"teacher.{field} must be a readable file; got {path}: {error.strerror}. Check the path."
            ) from error
        copied[field] = File.of(Path(uri), name)
        if expected_sha256 and copied[field].sha256 != expected_sha256:
            raise TeacherError(
                f"teacher.{field} {path} must have the SHA-256 {expected_sha256[:16]}… that it had when the run began; "
                f"got {copied[field].sha256[:16]}…. Run again."
            )
    return copied


def _describe(
    teacher: types.Artifact, logits: types.Artifact, manifest: TeacherManifest, logits_manifest: TeacherLogitsManifest
) -> None:
    teacher.set_string_custom_property("sha256", manifest.sha256)
    teacher.set_string_custom_property("format", manifest.format)
    teacher.set_int_custom_property("bytes", manifest.bytes)
    if manifest.parameters is not None:
        teacher.set_int_custom_property("parameters", manifest.parameters)
    for split, accuracy in manifest.accuracy.items():
        teacher.set_float_custom_property(f"{split}_accuracy", accuracy)
    logits.set_string_custom_property("teacher_sha256", logits_manifest.teacher_sha256)
    logits.set_string_custom_property("data_digest", logits_manifest.data_digest)
    logits.set_int_custom_property("views", logits_manifest.recipe.count)
    logits.set_int_custom_property("forward_passes", logits_manifest.forward_passes)
    if logits_manifest.features:
        logits.set_string_custom_property("feature_layer", logits_manifest.features.layer)
        logits.set_int_custom_property("feature_passes", logits_manifest.features.forward_passes)
