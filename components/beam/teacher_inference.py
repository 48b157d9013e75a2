# SPDX-License-Identifier: Apache-2.0
"""Asking a teacher about all images, as a Beam pipeline with an element a shard; apart from the nodes that do.

TeacherImporter asks the user's model, and Distiller the one that it trained along. A worker loads the teacher once.
Workers on several machines must share the folders of examples and logits. Beside each finished shard lies what was
counted in it, until all are finished: a shard that an earlier try has finished is not asked about again.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

import apache_beam as beam
import numpy as np

from learn2compress.components.beam.options import user_errors
from learn2compress.compression.teacher.classifier import LoadedTeacher, load_teacher
from learn2compress.compression.teacher.features import find_feature_layer
from learn2compress.compression.teacher.logits import ShardCount, write_outputs_shard
from learn2compress.data.batches import FEATURES_FOLDER
from learn2compress.modalities import modality_of
from learn2compress.schemas.config import TeacherImportConfig
from learn2compress.schemas.manifests import DataManifest, Split, Task, TeacherManifest, ViewRecipe
from learn2compress.schemas.progress import Task as Progress
from learn2compress.schemas.progress import say

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
FEATURE_PARTS = ("train", "unlabeled")
_COUNTS = ".counts"  # what a shard's file has beside it until all shards are there


def open_teacher(config: TeacherImportConfig, task: Task, path: str | None = None) -> LoadedTeacher:
    """Loads the teacher as configured.

    Args:
        config: How it is to be understood.
        task: Of the data.
        path: Where it is; default: as configured.
    """
    return load_teacher(
        path or config.path,
        scaling=config.scaling,
        signature=config.signature,
        output_name=config.output,
        class_order=config.class_order,
        resize=config.resize,
        example_shape=task.input_shape,
        modality=modality_of(task),
    )


def understanding(folder: str | Path, manifest: TeacherManifest) -> TeacherImportConfig:
    """The section that says of a teacher in an artifact where it is and how it is to be understood."""
    return TeacherImportConfig(
        path=f"{folder}/{manifest.model}",
        scaling=manifest.scaling,
        signature=manifest.signature,
        output=manifest.output_name,
        class_order=manifest.class_order,
        resize=manifest.resize,
    )


def ask_teacher(
    pipeline: beam.Pipeline,
    config: TeacherImportConfig,
    data: DataManifest,
    examples: str,
    output: str,
    recipe: ViewRecipe,
    splits: Sequence[Split] = SPLITS,
    with_features: bool = False,
) -> dict[str, ShardCount]:
    """Writes the teacher's logits on K views of the training images, and on held-out images as they are.

    Args:
        pipeline: Not yet run.
        config: Where the teacher is and how it is to be understood.
        data: Of the examples.
        examples: Folder of `Examples`.
        output: Folder of `TeacherLogits`, or one in which they gather until they are whole, see `move_answers`.
        recipe: Of the views.
        splits: Of which to write logits.
        with_features: Whether to write its features, too, on K views of the training images and of those without
            labels. Where both are wanted of an image, the teacher sees its views once for both.

    Returns:
        What was counted in each split and in `unlabeled`, zeros in one that was left out.

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
        folders = {"logits": output} if part in splits else {}
        if with_features and part in FEATURE_PARTS:
            folders["features"] = f"{output}/{FEATURES_FOLDER}"
        if not folders:
            continue
        drawn = recipe if part in FEATURE_PARTS else held_out
        views += drawn.count * images[part]
        for name in names[part]:
            place = f"Split-{part}/{name}"
            answers = {kind: f"{folder}/{place}" for kind, folder in folders.items()}
            shards.append((part, f"{examples}/{place}", answers, drawn))
    finished = [count for _, _, answers, _ in shards if (count := _read_count(answers))]
    before = sum(count.forward_passes for count in finished)
    if finished:
        say(f"{len(finished)} of {len(shards)} shards were answered before: the teacher is asked about the others")
    with user_errors(), pipeline:
        (
            pipeline
            | "Shards" >> beam.Create(shards)
            | "Spread" >> beam.Reshuffle()
            | "Ask" >> beam.ParDo(_AskTeacher(config, data.task, with_features, views, before))
        )
    counts = {part: ShardCount(0, 0, 0) for part in (*SPLITS, "unlabeled")}
    for part, _, answers, _ in shards:
        counts[part] += _read_count(answers) or ShardCount(0, 0, 0)
    for _, _, answers, _ in shards:
        _counts_path(answers).unlink()
    return counts


def move_answers(gathered: Path, output: str) -> None:
    """Moves what `ask_teacher` wrote, now that it is whole, to the artifact's folder."""
    Path(output).mkdir(parents=True, exist_ok=True)
    for part in gathered.iterdir():
        shutil.move(part, Path(output, part.name))
    gathered.rmdir()


def accuracy_of(counts: dict[str, ShardCount]) -> dict[Split, float]:
    """A teacher's accuracy on the held-out images that it was asked about."""
    held_out: tuple[Split, ...] = ("validation", "test")
    return {split: counts[split].correct / counts[split].images for split in held_out if counts[split].images}


class _AskTeacher(beam.DoFn):
    """Writes the answers about a shard; the teacher is loaded once a worker."""

    def __init__(self, config: TeacherImportConfig, task: Task, with_features: bool, views: int, before: int) -> None:
        self.config, self.task, self.with_features = config, task, with_features
        self.views, self.before = views, before

    def setup(self) -> None:
        self.teacher = open_teacher(self.config, self.task)
        self.features = find_feature_layer(self.teacher, self.config.feature_layer) if self.with_features else None
        # Seen where the work is done in the caller's process; other processes tell their own logs.
        self.progress = Progress("asking the teacher: view", self.views, self.before)

    def process(self, shard: tuple[str, str, dict[str, str], ViewRecipe]) -> None:
        _, examples, answers, recipe = shard
        if _read_count(answers) is None:
            ask = self._ask_for_both if "features" in answers else self._ask_for_logits
            count = write_outputs_shard(ask, examples, answers, self.task, recipe, self.progress.advance)
            _write_count(answers, count)

    def _ask_for_logits(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": self.teacher.logits(images)}

    def _ask_for_both(self, images: np.ndarray) -> dict[str, np.ndarray]:
        assert self.features is not None  # with_features
        features, logits = self.features.features_and_logits(images)
        return {"features": features, "logits": logits}


def _counts_path(answers: Mapping[str, str]) -> Path:
    """Beside the first of the files of a shard's answers."""
    return Path(next(iter(answers.values())) + _COUNTS)


def _write_count(answers: Mapping[str, str], count: ShardCount) -> None:
    path = _counts_path(answers)
    partial = Path(f"{path}.partial")
    partial.write_text(",".join(map(str, astuple(count))), encoding="utf-8")
    os.replace(partial, path)


def _read_count(answers: Mapping[str, str]) -> ShardCount | None:
    """What was counted in a shard; None if it is not finished."""
    path = _counts_path(answers)
    return ShardCount(*map(int, path.read_text(encoding="utf-8").split(","))) if path.exists() else None
