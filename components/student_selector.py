# SPDX-License-Identifier: Apache-2.0
"""StudentSelector: chooses one .tflite file under limits, and blesses it for the standard Pusher.

Enters: the evaluation and the files it is of. Leaves: the choice with a reason for each candidate
(Selection), the chosen file laid out as a standard Model, and its standard ModelBlessing. Nothing satisfies
the limits: the node fails with SelectionError, so that nothing downstream can take an unfit model.

Lineage records the limits and the objective as parameters, and on the outputs which candidate was chosen,
its SHA-256 and its accuracy on the validation split (by which it was chosen) and on the test split (which
had no say).
"""

import shutil
from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import Artifact, artifact_utils, standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from learn2compress.evaluation.predictions import PREDICTIONS, validation_correctness
from learn2compress.evaluation.selection import choose
from learn2compress.schemas.artifacts import ModelEvaluation, OnDeviceModelSet, Selection
from learn2compress.schemas.config import SelectConfig
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.manifests import OnDeviceModelSetManifest, read_manifest, write_manifest
from learn2compress.schemas.parameters import declare, decode, encode
from learn2compress.schemas.reports import EVALUATION, SELECTION, Candidate, Choice, Evaluation, Limits

BLESSED = "BLESSED"  # the name that tfx's own Evaluator gives it


class StudentSelectorSpec(ComponentSpec):
    """The interface of StudentSelector."""

    INPUTS = {
        "evaluation": ChannelParameter(type=ModelEvaluation),
        "models": ChannelParameter(type=OnDeviceModelSet),
    }
    OUTPUTS = {
        "selection": ChannelParameter(type=Selection),
        "model": ChannelParameter(type=standard_artifacts.Model),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }
    PARAMETERS = {**declare(select=SelectConfig), "code_version": ExecutionParameter(type=str)}


class StudentSelectorExecutor(base_executor.BaseExecutor):
    """Reads the evaluation, chooses, copies the chosen file."""

    def Do(self, input_dict: dict, output_dict: dict, exec_properties: dict[str, Any]) -> None:
        """Runs the node.

        Raises:
            SelectionError: Nothing satisfies the limits.
            ModelFileError: The chosen file is not the one that was evaluated.
        """
        config = decode(SelectConfig, "select", exec_properties)
        folder = Path(artifact_utils.get_single_uri(input_dict["evaluation"]))
        models = artifact_utils.get_single_instance(input_dict["models"])
        evaluation = read_manifest(folder, Evaluation, EVALUATION)

        limits = Limits(**config.model_dump(exclude={"objective"}))
        choice = choose(evaluation, limits, config.objective, validation_correctness(folder / PREDICTIONS))
        chosen = next(c for c in evaluation.candidates if c.name == choice.chosen)

        _write_selection(artifact_utils.get_single_instance(output_dict["selection"]), choice, chosen)
        model = artifact_utils.get_single_instance(output_dict["model"])
        _copy_model(Path(models.uri), chosen, model)
        _bless(artifact_utils.get_single_instance(output_dict["blessing"]), model)


def _write_selection(selection: Artifact, choice: Choice, chosen: Candidate) -> None:
    write_manifest(selection.uri, choice, SELECTION)
    selection.set_string_custom_property("chosen", chosen.name)
    selection.set_string_custom_property("sha256", chosen.sha256)
    selection.set_string_custom_property("objective", choice.objective)
    for split, figures in chosen.figures.items():
        selection.set_float_custom_property(f"{split}_accuracy", figures.top1)


def _copy_model(folder: Path, chosen: Candidate, model: Artifact) -> None:
    """Copies the chosen file to where the Pusher looks for a model's serving form."""
    manifest = read_manifest(folder, OnDeviceModelSetManifest)
    source = next((folder / m.file.path for m in manifest.models if m.name == chosen.name), None)
    if source is None or file_sha256(source) != chosen.sha256:
        raise ModelFileError(
            f"{chosen.name} in {folder} must be the file that was evaluated, with SHA-256 {chosen.sha256}; "
            "it is another or missing. Evaluate again."
        )
    serving = Path(path_utils.serving_model_dir(model.uri))
    serving.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, serving / source.name)
    model.set_string_custom_property("chosen", chosen.name)
    model.set_string_custom_property("sha256", chosen.sha256)


def _bless(blessing: Artifact, model: Artifact) -> None:
    """Writes a blessing as tfx's Evaluator does."""
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    (Path(blessing.uri) / BLESSED).touch()
    blessing.set_int_custom_property("blessed", 1)
    blessing.set_string_custom_property("current_model", model.uri)
    blessing.set_int_custom_property("current_model_id", model.id)


class StudentSelector(base_component.BaseComponent):
    """Chooses one of the files that were evaluated.

    Args:
        evaluation: ModelEvaluation.
        models: OnDeviceModelSet, the files of that evaluation.
        select: The limits and the objective.
        code_version: Changes when the algorithm does, so that the cache notices.

    Outputs: `selection`, `model`, `blessing`.
    """

    SPEC_CLASS = StudentSelectorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(StudentSelectorExecutor)

    def __init__(self, evaluation: BaseChannel, models: BaseChannel, select: SelectConfig, code_version: str) -> None:
        super().__init__(
            StudentSelectorSpec(
                evaluation=evaluation,
                models=models,
                selection=Channel(type=Selection),
                model=Channel(type=standard_artifacts.Model),
                blessing=Channel(type=standard_artifacts.ModelBlessing),
                code_version=code_version,
                **encode(select=select),
            )
        )
