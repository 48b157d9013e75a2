# SPDX-License-Identifier: Apache-2.0
"""Runs inference with a teacher on all examples, as a Beam pipeline with one element for each shard.

TeacherImporter runs it with the user's model, Distiller with the jointly trained one. Each worker loads the teacher
once. Workers on several machines must share the folders of examples and logits. The counts of each finished shard are
kept in a file beside it until all shards are finished, so that a later attempt skips the shards that an earlier one
has finished. The module is separate from the nodes, so that workers import no TFX.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

import apache_beam as beam
import numpy as np

from learn2compress.components.beam.options import user_errors
from learn2compress.compression.teacher.configured import open_teacher
from learn2compress.compression.teacher.features import find_feature_layer
from learn2compress.compression.teacher.logits import ShardCount, write_outputs_shard
from learn2compress.data.batches import FEATURES_FOLDER
from learn2compress.schemas.config import TeacherImportConfig
from learn2compress.schemas.files.whole import remove_asides, write_whole
from learn2compress.schemas.manifests import AnyViewRecipe, DataManifest, Split, Task, TeacherManifest
from learn2compress.schemas.progress import Task as Progress
from learn2compress.schemas.progress import say

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
FEATURE_PARTS = ("train", "unlabeled")
_COUNTS = ".counts"  # suffix of the file with a shard's counts, kept until all shards are finished


def import_config_of(folder: str | Path, manifest: TeacherManifest) -> TeacherImportConfig:
    """Makes the configuration with which the teacher of an artifact is loaded.

    Args:
        folder: Folder of the `Teacher` or `TrainedTeacher` artifact.
        manifest: Manifest of the teacher in it.
    """
    return TeacherImportConfig(
        path=f"{folder}/{manifest.model}",
        scaling=manifest.scaling,
        signature=manifest.signature,
        output=manifest.output_name,
        class_order=manifest.class_order,
        resize=manifest.resize,
        tokenizer=f"{folder}/{manifest.tokenizer.path}" if manifest.tokenizer else None,
        vocabulary=f"{folder}/{manifest.vocabulary.path}" if manifest.vocabulary else None,
    )


def run_teacher_inference(
    pipeline: beam.Pipeline,
    config: TeacherImportConfig,
    data: DataManifest,
    examples: str,
    output: str,
    recipe: AnyViewRecipe,
    splits: Sequence[Split] = SPLITS,
    with_features: bool = False,
    with_unlabeled: bool = False,
) -> dict[str, ShardCount]:
    """Writes the teacher's logits on K views of the training examples, and on the unchanged held-out examples.

    Args:
        pipeline: Beam pipeline, not yet run.
        config: Configuration with which the teacher is loaded.
        data: Manifest of the examples.
        examples: Folder of `Examples`.
        output: Folder of `TeacherLogits`, or a folder in which the outputs are collected until they are complete, see
            `move_outputs`.
        recipe: Recipe of the views.
        splits: Splits for which logits are written.
        with_features: Whether to write features as well, on K views of the training examples and of those without
            labels. Logits and features of a view come from one forward pass.
        with_unlabeled: Whether to write logits on K views of the examples without labels as well.

    Returns:
        The counts of each split and of `unlabeled`; zeros for those that were left out.

    Raises:
        TeacherError: A logit is not finite.
    """
    held_out = recipe.model_copy(update={"count": 1})
    names = dict[str, list[str]](data.shards.items())
    images = dict[str, int](data.counts.items())
    if data.unlabeled:
        names["unlabeled"], images["unlabeled"] = data.unlabeled.shards, data.unlabeled.count
    shards, views = [], 0
    for part in names:
        has_logits = part in splits or (with_unlabeled and part == "unlabeled")
        folders = {"logits": output} if has_logits else {}
        if with_features and part in FEATURE_PARTS:
            folders["features"] = f"{output}/{FEATURES_FOLDER}"
        if not folders:
            continue
        drawn = recipe if part in FEATURE_PARTS else held_out
        views += drawn.count * images[part]
        for name in names[part]:
            place = f"Split-{part}/{name}"
            outputs = {kind: f"{folder}/{place}" for kind, folder in folders.items()}
            shards.append((part, f"{examples}/{place}", outputs, drawn))
    finished = [count for _, _, outputs, _ in shards if (count := _read_count(outputs))]
    before = sum(count.forward_passes for count in finished)
    if finished:
        say(f"{len(finished)} of {len(shards)} shards have outputs of an earlier attempt; inference runs on the others")
    with user_errors(), pipeline:
        (
            pipeline
            | "Shards" >> beam.Create(shards)
            | "Distribute" >> beam.Reshuffle()
            | "RunTeacher" >> beam.ParDo(_RunTeacher(config, data.task, with_features, views, before))
        )
    counts = {part: ShardCount(0, 0, 0) for part in (*SPLITS, "unlabeled")}
    for part, _, outputs, _ in shards:
        counts[part] += _read_count(outputs) or ShardCount(0, 0, 0)
    for _, _, outputs, _ in shards:
        _counts_path(outputs).unlink()
    return counts


def move_outputs(collected: Path, output: str) -> None:
    """Moves the complete outputs of `run_teacher_inference` to the artifact's folder."""
    remove_asides(collected)
    Path(output).mkdir(parents=True, exist_ok=True)
    for part in collected.iterdir():
        shutil.move(part, Path(output, part.name))
    collected.rmdir()


def accuracy_of(counts: dict[str, ShardCount]) -> dict[Split, float]:
    """Computes a teacher's accuracy on the held-out splits from the counts of its inference."""
    held_out: tuple[Split, ...] = ("validation", "test")
    return {split: counts[split].correct / counts[split].images for split in held_out if counts[split].images}


class _RunTeacher(beam.DoFn):
    """Writes the teacher's outputs for a shard; each worker loads the teacher once."""

    def __init__(self, config: TeacherImportConfig, task: Task, with_features: bool, views: int, before: int) -> None:
        self.config, self.task, self.with_features = config, task, with_features
        self.views, self.before = views, before

    def setup(self) -> None:
        self.teacher = open_teacher(self.config, self.task)
        self.features = find_feature_layer(self.teacher, self.config.feature_layer) if self.with_features else None
        # Shown if the work is done in the caller's process; other processes write to their own logs.
        self.progress = Progress("teacher inference: view", self.views, self.before)

    def process(self, shard: tuple[str, str, dict[str, str], AnyViewRecipe]) -> None:
        _, examples, outputs, recipe = shard
        if _read_count(outputs) is None:
            infer = self._infer_both if "features" in outputs else self._infer_logits
            count = write_outputs_shard(infer, examples, outputs, self.task, recipe, self.progress.advance)
            _write_count(outputs, count)

    def _infer_logits(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": self.teacher.logits(images)}

    def _infer_both(self, images: np.ndarray) -> dict[str, np.ndarray]:
        assert self.features is not None  # with_features
        features, logits = self.features.features_and_logits(images)
        return {"features": features, "logits": logits}


def _counts_path(outputs: Mapping[str, str]) -> Path:
    """Names the file of counts, which lies beside the first output file of a shard."""
    return Path(next(iter(outputs.values())) + _COUNTS)


def _write_count(outputs: Mapping[str, str], count: ShardCount) -> None:
    write_whole(_counts_path(outputs), ",".join(map(str, astuple(count))))


def _read_count(outputs: Mapping[str, str]) -> ShardCount | None:
    """Reads the counts of a shard; None if it is not finished."""
    path = _counts_path(outputs)
    return ShardCount(*map(int, path.read_text(encoding="utf-8").split(","))) if path.exists() else None
