# SPDX-License-Identifier: Apache-2.0
"""Runs every .tflite file on every validation and test image in a TFX node, and measures accuracy and costs.

Inputs: the files, the examples, the teacher and its logits on the held-out images. Outputs: `ModelEvaluation`, with the
figures of each file under its SHA-256, and each file's prediction for each image. A file that is truncated or is no
classifier is reported as failed, and the others are still evaluated.

Beam runs the inference. Latency is measured afterwards, in this process, while no worker runs; figures measured on a
phone (`evaluate.device_results`) replace it. The lineage records the digest of those figures as a parameter, and the
top-1 accuracy of each file on the test split as a property of the evaluation.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel

from learn2compress.components.beam.evaluation import ModelToRun, Shard, run_models
from learn2compress.components.node import BeamNodeExecutor, Execution, Node
from learn2compress.data.stored_examples import look_up_examples
from learn2compress.evaluation.device_results import apply_device_results, read_device_results
from learn2compress.evaluation.measure import (
    Identity,
    Tally,
    describe,
    figures_of,
    measure_latency,
    predictions_of,
    this_host,
)
from learn2compress.evaluation.predictions import PREDICTIONS, write_predictions
from learn2compress.modalities import modality_of
from learn2compress.schemas.artifacts import ModelEvaluation, OnDeviceModelSet, Teacher, TeacherLogits
from learn2compress.schemas.config import Config, EvaluateConfig
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import ConfigError
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.manifests import (
    DataManifest,
    OnDeviceModel,
    OnDeviceModelSetManifest,
    Split,
    TeacherManifest,
    read_manifest,
    write_manifest,
)
from learn2compress.schemas.reports import EVALUATION, THUMBNAILS, Candidate, Evaluation, TeacherFigures

HELD_OUT: tuple[Split, ...] = ("validation", "test")


class TFLiteEvaluatorExecutor(BeamNodeExecutor):
    """Describes the files, runs them with Beam, and measures their latency."""

    def run(self, execution: Execution) -> None:
        """Runs the node.

        Raises:
            ConfigError: The device results cannot be read, or name a file that does not exist.
            DataError: A shard is damaged, or the teacher's logits belong to other examples.
        """
        config = execution.section("evaluate", EvaluateConfig)
        device = read_device_results(config.device_results) if config.device_results else None
        folders = {name: Path(execution.uri(name)) for name in TFLiteEvaluator.INPUTS}
        models = read_manifest(folders["models"], OnDeviceModelSetManifest)
        data = read_manifest(folders["examples"], DataManifest)
        teacher = read_manifest(folders["teacher"], TeacherManifest)
        output = execution.output("evaluation")

        candidates = [_describe(folders["models"], model, data) for model in models.models]
        if device:
            candidates = apply_device_results(candidates, device)
        parts = Path(output.uri, "parts")
        tallies = run_models(
            self._make_beam_pipeline(), _shards(data, folders), _to_run(candidates, folders), data.task, parts
        )
        shutil.rmtree(parts)

        candidates = [_with_figures(c, tallies, len(data.task.classes), config.top_k) for c in candidates]
        if not device:
            candidates = [_with_latency(c, folders["models"], config, data.task.modality) for c in candidates]
        evaluation = Evaluation(
            task=data.task,
            host=device.host if device else this_host(),
            teacher=TeacherFigures(
                sha256=teacher.sha256,
                bytes=teacher.bytes,
                parameters=teacher.parameters,
                macs=teacher.macs,
                accuracy=teacher.accuracy,
            ),
            images={split: data.counts[split] for split in HELD_OUT},
            candidates=candidates,
        )
        write_manifest(output.uri, evaluation, EVALUATION)
        write_predictions(Path(output.uri, PREDICTIONS), {s: predictions_of(tallies, s) for s in HELD_OUT})
        _write_thumbnails(Path(output.uri), evaluation, data, folders["examples"])
        _record(output, evaluation)


class TFLiteEvaluator(Node):
    """Measures the accuracy, size and latency of every file.

    Parameters:
        device_results_sha256: Digest of the figures measured on a phone, if there are any.

    Inputs:
        models: Files of Quantizer.
        examples: Examples artifact of ImageExampleGen.
        teacher: Imported teacher, the reference.
        teacher_logits: Logits of the imported teacher, for agreement and flips.
    """

    EXECUTOR = TFLiteEvaluatorExecutor
    SECTIONS = {"evaluate": EvaluateConfig}
    PARAMETERS = {"device_results_sha256": str}
    INPUTS = {
        "models": OnDeviceModelSet,
        "examples": standard_artifacts.Examples,
        "teacher": Teacher,
        "teacher_logits": TeacherLogits,
    }
    OUTPUTS = {"evaluation": ModelEvaluation}
    OPTIONAL = ("device_results_sha256",)

    def __init__(self, config: Config, inputs: Mapping[str, BaseChannel], code_version: str) -> None:
        """Builds the node; see `Node`.

        Args:
            config: Configuration of the run.
            inputs: Channels by key.
            code_version: Digest of the code on which results depend.

        Raises:
            ConfigError: The device results cannot be read.
        """
        results = config.evaluate.device_results
        # The digest is a parameter, since TFX's cache key covers parameters and not files.
        sha256 = _digest(results) if results else None
        super().__init__(config, inputs, device_results_sha256=sha256, code_version=code_version)


def _digest(path: str) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise ConfigError(f"evaluate.device_results {path} must be a readable file; {error.strerror}.") from error


def _describe(folder: Path, model: OnDeviceModel, data: DataManifest) -> Candidate:
    identity = Identity(
        name=model.name,
        student=model.student,
        variant=model.variant,
        file=model.file.path,
        baseline=model.baseline,
        layers=model.layers,
        calibration=model.calibration,
        rescue=model.rescue,
    )
    candidate = describe(folder / model.file.path, identity, data.task)
    if candidate.sha256 != model.file.sha256 and candidate.failed is None:
        reason = (
            f"{model.file.path} must have SHA-256 {model.file.sha256}, as its manifest says; it has {candidate.sha256}."
        )
        return candidate.model_copy(update={"failed": reason})
    return candidate


def _shards(data: DataManifest, folders: Mapping[str, Path]) -> list[Shard]:
    return [
        Shard(
            split=split,
            order=order,
            examples=str(folders["examples"] / f"Split-{split}" / shard),
            logits=str(folders["teacher_logits"] / f"Split-{split}" / shard),
        )
        for split in HELD_OUT
        for order, shard in enumerate(data.shards[split])
    ]


def _to_run(candidates: Sequence[Candidate], folders: Mapping[str, Path]) -> list[ModelToRun]:
    return [
        ModelToRun(candidate.name, str(folders["models"] / candidate.file), candidate.sha256)
        for candidate in candidates
        if candidate.failed is None
    ]


def _with_figures(
    candidate: Candidate, tallies: Mapping[tuple[Split, str], Tally], classes: int, top_k: int
) -> Candidate:
    figures = {
        split: figures_of(tallies[split, candidate.name], classes, top_k)
        for split in HELD_OUT
        if (split, candidate.name) in tallies
    }
    return candidate.model_copy(update={"figures": figures})


def _with_latency(candidate: Candidate, folder: Path, config: EvaluateConfig, modality: str) -> Candidate:
    if candidate.failed is not None:
        return candidate
    latency = measure_latency(folder / candidate.file, config.threads, config.latency_runs, modality)
    return candidate.model_copy(update={"latency": latency})


def _write_thumbnails(output: Path, evaluation: Evaluation, data: DataManifest, examples: Path) -> None:
    """Writes previews of the flips that the figures name, so that a report needs no examples."""
    ids = {flip.id for c in evaluation.candidates if "test" in c.figures for flip in c.figures["test"].flips}
    shards = [examples / "Split-test" / shard for shard in data.shards["test"]]
    found = look_up_examples(shards, data.task, ids)
    preview = modality_of(data.task).presentation(data.task).preview
    pictures = {identity: preview(example) for identity, example in sorted(found.items())}
    write_whole(output / THUMBNAILS, json.dumps(pictures, indent=0) + "\n")


def _record(output: Any, evaluation: Evaluation) -> None:
    output.set_int_custom_property("images", sum(evaluation.images.values()))
    for candidate in evaluation.candidates:
        if "test" in candidate.figures:
            key = f"accuracy_{candidate.name.replace('-', '_')}"
            output.set_float_custom_property(key, candidate.figures["test"].top1)
