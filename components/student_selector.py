# SPDX-License-Identifier: Apache-2.0
"""Chooses one .tflite file under limits in a TFX node, and blesses it for the standard Pusher.

Inputs: the evaluation and the evaluated files. Outputs: the choice with a reason for each candidate (Selection), the
chosen file in the layout of a standard Model, and its standard ModelBlessing. If no candidate satisfies the limits, the
node fails with SelectionError, so that no later node can use an unfit model.

The lineage records the limits and the objective as parameters, and as properties of the outputs the chosen candidate,
its SHA-256, and its accuracy on the validation split, which decides the choice, and on the test split, which does not.
"""

from pathlib import Path

from tfx.types import Artifact, standard_artifacts
from tfx.utils import path_utils

from learn2compress.components.node import Execution, Node, NodeExecutor
from learn2compress.evaluation.predictions import PREDICTIONS, validation_correctness
from learn2compress.evaluation.selection import choose
from learn2compress.schemas.artifacts import ModelEvaluation, OnDeviceModelSet, Selection
from learn2compress.schemas.config import SelectConfig
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.files.whole import copy_whole
from learn2compress.schemas.manifests import OnDeviceModelSetManifest, read_manifest, write_manifest
from learn2compress.schemas.reports import EVALUATION, SELECTION, Candidate, Choice, Evaluation, Limits

BLESSED = "BLESSED"  # file name that tfx's own Evaluator uses


class StudentSelectorExecutor(NodeExecutor):
    """Reads the evaluation, chooses a file, and copies it."""

    def run(self, execution: Execution) -> None:
        """Runs the node.

        Raises:
            SelectionError: No candidate satisfies the limits.
            ModelFileError: The chosen file is not the one that was evaluated.
        """
        config = execution.section("select", SelectConfig)
        folder = Path(execution.uri("evaluation"))
        evaluation = read_manifest(folder, Evaluation, EVALUATION)

        limits = Limits(**config.model_dump(exclude={"objective"}))
        choice = choose(evaluation, limits, config.objective, validation_correctness(folder / PREDICTIONS))
        chosen = next(c for c in evaluation.candidates if c.name == choice.chosen)

        model = execution.output("model")
        _write_selection(execution.output("selection"), choice, chosen)
        _copy_model(Path(execution.uri("models")), chosen, model)
        _bless(execution.output("blessing"), model)


class StudentSelector(Node):
    """Chooses one of the evaluated files.

    Inputs:
        evaluation: Evaluation of TFLiteEvaluator.
        models: Files of that evaluation.
    """

    EXECUTOR = StudentSelectorExecutor
    SECTIONS = {"select": SelectConfig}
    INPUTS = {"evaluation": ModelEvaluation, "models": OnDeviceModelSet}
    OUTPUTS = {
        "selection": Selection,
        "model": standard_artifacts.Model,
        "blessing": standard_artifacts.ModelBlessing,
    }


def _write_selection(selection: Artifact, choice: Choice, chosen: Candidate) -> None:
    write_manifest(selection.uri, choice, SELECTION)
    selection.set_string_custom_property("chosen", chosen.name)
    selection.set_string_custom_property("sha256", chosen.sha256)
    selection.set_string_custom_property("objective", choice.objective)
    for split, figures in chosen.figures.items():
        selection.set_float_custom_property(f"{split}_accuracy", figures.top1)


def _copy_model(folder: Path, chosen: Candidate, model: Artifact) -> None:
    """Copies the chosen file to the folder in which the Pusher expects a servable model."""
    manifest = read_manifest(folder, OnDeviceModelSetManifest)
    source = next((folder / m.file.path for m in manifest.models if m.name == chosen.name), None)
    if source is None or file_sha256(source) != chosen.sha256:
        raise ModelFileError(
            f"{chosen.name} in {folder} must be the file that was evaluated, with SHA-256 {chosen.sha256}; "
            "it differs or is missing. Evaluate again."
        )
    serving = Path(path_utils.serving_model_dir(model.uri))
    serving.mkdir(parents=True, exist_ok=True)
    copy_whole(source, serving / source.name)
    model.set_string_custom_property("chosen", chosen.name)
    model.set_string_custom_property("sha256", chosen.sha256)


def _bless(blessing: Artifact, model: Artifact) -> None:
    """Writes a blessing in the form that tfx's Evaluator uses."""
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    (Path(blessing.uri) / BLESSED).touch()
    blessing.set_int_custom_property("blessed", 1)
    blessing.set_string_custom_property("current_model", model.uri)
    blessing.set_int_custom_property("current_model_id", model.id)
