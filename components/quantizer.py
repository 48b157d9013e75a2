# SPDX-License-Identifier: Apache-2.0
"""The node that trains the students for 8-bit arithmetic and writes the files that ship.

Enters: the examples, the teacher and its logits, the pruned students. Leaves: `OnDeviceModelSet`, a .tflite file for
each student and variant, with labels and normalization as metadata, and the teacher's own files as reference points.
The manifest ranks each student's layers by what 8 bits do to them; a further file may keep the worst of them in float.
Ranges are set by training images only. The lineage records the variants, the training parameters, and each file's
SHA-256 and bytes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import tf_keras as keras
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from learn2compress.components.execution.checkpoints import checkpoint_path
from learn2compress.components.execution.coordination import call_workers
from learn2compress.components.execution.properties import describe_models
from learn2compress.components.execution.recipe import BEYOND_LOSS, training_recipe
from learn2compress.components.execution.trained_teacher import teaching_logits
from learn2compress.compression.quantization.baselines import add_baselines
from learn2compress.compression.quantization.conversion import INTEGER_TYPES
from learn2compress.compression.quantization.diagnosis import RescueSettings, diagnose
from learn2compress.compression.quantization.on_device import QuantizedFamily, write_models
from learn2compress.compression.quantization.preflight import output_only_layers, outputs_of, trained_for_8_bits
from learn2compress.compression.quantization.qat import calibrate, quantization_aware, settle_weight_ranges
from learn2compress.compression.students.files import load_family
from learn2compress.compression.students.single_student import single_student
from learn2compress.compression.training.curves import read_curves
from learn2compress.compression.training.distribution import open_distribution
from learn2compress.compression.training.joint_trainer import JointTrainer
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.modalities import modality_of
from learn2compress.schemas import parameters
from learn2compress.schemas.artifacts import OnDeviceModelSet, StudentSet, Teacher, TeacherLogits
from learn2compress.schemas.config import DistillConfig, QuantizeConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import StudentSetManifest, read_manifest

_AVERAGE_DECAY = 0.99
_CALIBRATION_BATCH = 64
_RESCUE_IMAGES = 2000  # of the validation split, at most


class QuantizerSpec(component_spec.ComponentSpec):
    """The node's interface."""

    PARAMETERS = {
        **parameters.declare(quantize=QuantizeConfig, distill=DistillConfig, without=BEYOND_LOSS),
        "student": component_spec.ExecutionParameter(type=str, optional=True),
        "seed": component_spec.ExecutionParameter(type=int),
        "code_version": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "teacher": component_spec.ChannelParameter(type=Teacher),
        "teacher_logits": component_spec.ChannelParameter(type=TeacherLogits),
        "students": component_spec.ChannelParameter(type=StudentSet),
        "trained_teacher_logits": component_spec.ChannelParameter(type=TeacherLogits),
    }
    OUTPUTS = {"models": component_spec.ChannelParameter(type=OnDeviceModelSet)}


class QuantizerExecutor(base_executor.BaseExecutor):
    """Quantization-aware training of the whole family, then a file for each student and variant."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        config = parameters.decode(QuantizeConfig, "quantize", exec_properties)
        distill = parameters.decode(DistillConfig, "distill", exec_properties)
        distribution = open_distribution(distill.strategy)
        seed = int(exec_properties["seed"])
        examples = artifact_utils.get_single_uri(input_dict["examples"])
        logits = teaching_logits(input_dict)
        source = artifact_utils.get_single_uri(input_dict["students"])
        output = artifact_utils.get_single_instance(output_dict["models"])
        before = read_manifest(source, StudentSetManifest)
        family = load_family(source, before)
        if student := exec_properties.get("student"):
            family, before = single_student(family, before, student)
        names = tuple(student.name for student in before.students)
        data = TrainingData.open(examples, logits, distill.batch_size, seed + 2)
        images, ids = data.representative(config.calibration_images)
        checkpoint = checkpoint_path(output, input_dict, exec_properties)

        quantized, curves = None, read_curves(source)
        learning = tuple(s.name for s in before.students if trained_for_8_bits(s.preflight))
        if learning and config.epochs and set(config.variants) & set(INTEGER_TYPES):
            call_workers(distribution, "Quantizer", input_dict, exec_properties)
            keep_zeros = any(student.sparsity for student in before.students)
            part = outputs_of(family, names, learning)
            normalize = modality_of(before.task).student_input.normalize
            batches = [normalize(images[i : i + _CALIBRATION_BATCH]) for i in range(0, len(images), _CALIBRATION_BATCH)]

            def wrap() -> keras.Model:
                return quantization_aware(part, keep_zeros, output_only_layers(before.students))

            quantized = wrap()
            calibrate(quantized, part, batches)
            model = distribution.spread(quantized, wrap)
            recipe = training_recipe("quantized", config, distill, learning, data)
            trainer = JointTrainer(
                model,
                learning,
                replace(recipe, ema_decay=_AVERAGE_DECAY),
                after_restore=lambda: settle_weight_ranges(model),
                distribution=distribution,
            )
            curves += trainer.train(data.epoch, data.validation(), checkpoint)
            if not distribution.is_chief:
                return
            distribution.gather(model, quantized)
        made = QuantizedFamily(family, quantized, names, learning)
        manifest = write_models(output.uri, made, before, config.variants, images, ids, curves)
        manifest = diagnose(output.uri, manifest, made, images, _rescue(config, data))
        teacher = artifact_utils.get_single_uri(input_dict["teacher"])
        manifest = add_baselines(output.uri, manifest, teacher, config.teacher_variants, images, ids)
        describe_models(output, manifest)
        Path(checkpoint).unlink(missing_ok=True)


class Quantizer(base_component.BaseComponent):
    """`OnDeviceModelSet`: the .tflite files."""

    SPEC_CLASS = QuantizerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(QuantizerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        teacher: types.BaseChannel,
        teacher_logits: types.BaseChannel,
        trained_teacher_logits: types.BaseChannel,
        students: types.BaseChannel,
        quantize: QuantizeConfig,
        distill: DistillConfig,
        student: str | None = None,
        seed: int = 0,
        code_version: str = "",
    ) -> None:
        """Builds the node.

        Args:
            examples: Of ImageExampleGen.
            teacher: Of TeacherImporter.
            teacher_logits: Of TeacherImporter.
            trained_teacher_logits: Of Distiller: they teach instead where the teacher was trained along.
            students: Of Pruner.
            quantize: Variants, and how to train for them.
            distill: Whose loss goes on.
            student: The only one of the set that it handles; None: all of them.
            seed: Of the order of images.
            code_version: Changes when the node's results do.
        """
        spec = QuantizerSpec(
            **parameters.encode(quantize=quantize, distill=distill, without=BEYOND_LOSS),
            **({} if student is None else {"student": student}),
            examples=examples,
            teacher=teacher,
            teacher_logits=teacher_logits,
            trained_teacher_logits=trained_teacher_logits,
            students=students,
            seed=seed,
            code_version=code_version,
            models=types.Channel(type=OnDeviceModelSet),
        )
        super().__init__(spec=spec)


def _rescue(config: QuantizeConfig, data: TrainingData) -> RescueSettings | None:
    if not config.rescue:
        return None
    images, labels = data.first_validation(_RESCUE_IMAGES)
    if not len(labels):
        raise DataError(
            f"the examples in {data.examples} must have validation images to rescue by; got none. "
            "Set quantize.rescue: false, or raise data.validation_fraction."
        )
    return RescueSettings(config.rescue_drop, config.rescue_layers, images, labels)
