# SPDX-License-Identifier: Apache-2.0
"""Trains the students for 8-bit arithmetic in a TFX node, and writes the files that are shipped.

Inputs: the examples, the teacher and its logits, the pruned students. Outputs: `OnDeviceModelSet`, a .tflite file for
each student and variant, with labels and normalization as metadata, and plain conversions of the teacher for
comparison. The manifest ranks each student's layers by their quantization error; an additional mixed-precision file may
keep the layers with the largest error in float. Activation ranges are measured on training images only. The lineage
records the variants, the training parameters, and each file's SHA-256 and bytes.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import tf_keras as keras
from tfx.types import standard_artifacts

from learn2compress.components.execution.checkpoints import checkpoint_path
from learn2compress.components.execution.coordination import dispatch_training
from learn2compress.components.execution.properties import describe_models
from learn2compress.components.execution.recipe import training_recipe
from learn2compress.components.node import Execution, Node, NodeExecutor
from learn2compress.compression.dictionary.taken import taken
from learn2compress.compression.quantization.baselines import add_baselines
from learn2compress.compression.quantization.bias_correction import correct_biases
from learn2compress.compression.quantization.conversion import INTEGER_TYPES
from learn2compress.compression.quantization.diagnosis import MixedPrecisionSettings, diagnose
from learn2compress.compression.quantization.equalization import equalize
from learn2compress.compression.quantization.on_device import QuantizedFamily, write_models
from learn2compress.compression.quantization.preflight import output_only_layers, outputs_of, trained_for_8_bits
from learn2compress.compression.quantization.qat import calibrate, quantization_aware, settle_weight_ranges
from learn2compress.compression.students.files import dictionary_of, load_family
from learn2compress.compression.students.single_student import single_student
from learn2compress.compression.training.devices.distribution import Distribution, open_distribution
from learn2compress.compression.training.devices.memory import return_freed_memory
from learn2compress.compression.training.history.curves import read_curves
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.modalities import modality_of
from learn2compress.schemas.artifacts import OnDeviceModelSet, StudentSet, Teacher, TeacherLogits
from learn2compress.schemas.config import QuantizeConfig, TrainingConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import Epoch, StudentSetManifest, read_manifest

_AVERAGE_DECAY = 0.99
_CALIBRATION_BATCH = 64
_CORRECTION_IMAGES = 32  # by which biases are corrected; outputs of all of them are in memory
_MIXED_PRECISION_IMAGES = 2000  # most validation images by which the float layers are chosen


class QuantizerExecutor(NodeExecutor):
    """Trains the whole family quantization-aware, then writes a file for each student and variant."""

    def run(self, execution: Execution) -> None:
        config = execution.section("quantize", QuantizeConfig)
        distill = execution.section("distill", TrainingConfig)
        distribution = open_distribution(distill.strategy)
        seed = int(execution.parameters["seed"])
        source, output = execution.uri("students"), execution.output("models")
        before = read_manifest(source, StudentSetManifest)
        family = load_family(source, before)
        if student := execution.parameters.get("student"):
            family, before = single_student(family, before, student)
        names = tuple(student.name for student in before.students)
        examples, logits = execution.uri("examples"), execution.uri("teacher_logits")
        dictionary = dictionary_of(source, before)
        opened = TrainingData.open(examples, logits, distill.batch_size, seed + 2, before.input_shape)
        data = taken(opened, dictionary)
        images, ids = data.representative(config.calibration_images)
        checkpoint = checkpoint_path(output, execution.inputs, execution.parameters)

        normalize = modality_of(before.task).student_input.normalize
        batches = [normalize(images[i : i + _CALIBRATION_BATCH]) for i in range(0, len(images), _CALIBRATION_BATCH)]
        if before.trunk is not None:
            equalize(family, batches)
        quantized, curves = None, read_curves(source)
        learning = tuple(s.name for s in before.students if trained_for_8_bits(s.preflight))
        if learning and config.epochs and set(config.variants) & set(INTEGER_TYPES):
            dispatch_training(distribution, "Quantizer", execution.inputs, execution.parameters)
            part = outputs_of(family, names, learning)
            recipe = replace(training_recipe("quantized", config, distill, data), ema_decay=_AVERAGE_DECAY)
            quantized, curve = _trained(part, learning, before, batches, recipe, data, distribution, checkpoint)
            curves += curve
            if not distribution.is_chief:
                return
        del batches
        return_freed_memory()
        quantized_family = QuantizedFamily(family, quantized, names, learning, dictionary)
        manifest = write_models(output.uri, quantized_family, before, config.variants, images, ids, curves)
        manifest = diagnose(output.uri, manifest, quantized_family, images, _mixed_precision_settings(config, data))
        del family, quantized, quantized_family
        return_freed_memory()
        whole = images if data.input_shape is None else data.representative(config.calibration_images, stored=True)[0]
        manifest = add_baselines(output.uri, manifest, execution.uri("teacher"), config.teacher_variants, whole, ids)
        describe_models(output, manifest)
        Path(checkpoint).unlink(missing_ok=True)


def _trained(
    part: keras.Model,
    learning: tuple[str, ...],
    before: StudentSetManifest,
    batches: list[np.ndarray],
    recipe: Recipe,
    data: TrainingData,
    distribution: Distribution,
    checkpoint: Path,
) -> tuple[keras.Model, list[Epoch]]:
    """Makes the quantization-aware model of some students, and trains it; the optimizer's memory ends with the call."""
    keep_zeros = any(student.sparsity for student in before.students)

    def wrap() -> keras.Model:
        return quantization_aware(part, keep_zeros, output_only_layers(before.students))

    quantized = wrap()
    calibrate(quantized, part, batches)
    if before.trunk is not None:
        correct_biases(quantized, part, batches[0][:_CORRECTION_IMAGES])
    model = distribution.replicate(quantized, wrap)
    trainer = JointTrainer(
        model, learning, recipe, after_restore=lambda: settle_weight_ranges(model), distribution=distribution
    )
    curves = trainer.train(data.epoch, data.validation(), checkpoint)
    if distribution.is_chief:
        distribution.gather(model, quantized)
    return quantized, curves


class Quantizer(Node):
    """Makes an `OnDeviceModelSet`: the .tflite files.

    Parameters:
        student: Name of the only student that the node quantizes; left out: all of them.
        seed: Seed of the order of images.

    Inputs:
        examples: Examples artifact of ImageExampleGen.
        teacher: Imported teacher, whose plain conversions are written for comparison.
        teacher_logits: Logits for the distillation: those of TeacherImporter or, with a jointly trained teacher, those
            of Distiller.
        students: Students of Pruner.
    """

    EXECUTOR = QuantizerExecutor
    SECTIONS = {"quantize": QuantizeConfig, "distill": TrainingConfig}
    PARAMETERS = {"student": str, "seed": int}
    INPUTS = {
        "examples": standard_artifacts.Examples,
        "teacher": Teacher,
        "teacher_logits": TeacherLogits,
        "students": StudentSet,
    }
    OUTPUTS = {"models": OnDeviceModelSet}
    OPTIONAL = ("student",)


def _mixed_precision_settings(config: QuantizeConfig, data: TrainingData) -> MixedPrecisionSettings | None:
    """Makes the settings of the mixed-precision file; None without one."""
    if not config.mixed_precision:
        return None
    images, labels = data.first_validation(_MIXED_PRECISION_IMAGES)
    if not len(labels):
        raise DataError(
            f"the examples in {data.examples} must have validation images for mixed precision; got none. "
            "Set quantize.mixed_precision: false, or raise data.validation_fraction."
        )
    return MixedPrecisionSettings(config.mixed_precision_drop, config.mixed_precision_layers, images, labels)
