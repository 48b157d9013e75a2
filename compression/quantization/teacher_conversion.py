# SPDX-License-Identifier: Apache-2.0
"""Converts the teacher itself to a .tflite file without training: the baseline for the students.

The input is the same as that of the students' files (floats 0..255, or int8 with input = pixel - 128), the output is
probabilities: scaling, resizing, the order of the classes and the softmax are part of the file.

float16    weights stored in 16 bits
dynamic    weights in int8, activations quantized on the fly
int8       everything in int8, with ranges from training images; operators without an int8 implementation in float
"""

import re
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from learn2compress.compression.quantization.conversion import INPUT_NAME, finish
from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import DataError, TeacherError
from learn2compress.schemas.manifests import Task
from learn2compress.tflite.parsed_file import ParsedFile

_OPERATOR = re.compile(r"'?tf\.(\w+)'? op|(?:Select|Custom|Flex) ops: ([\w, ]+)")


def convert_teacher(teacher: LoadedTeacher, task: Task, variant: str, images: Sequence[np.ndarray] = ()) -> ParsedFile:
    """Converts a teacher.

    Args:
        teacher: Teacher of any format.
        task: Task of the data.
        variant: "float32", "float16", "dynamic" or "int8".
        images: Training images for the ranges of int8, each [h, w, c] uint8.

    Returns:
        The file, parsed and compacted.

    Raises:
        TeacherError: The teacher cannot be converted; the message names the missing operator or the converter's error.
        DataError: There are no images for the ranges.
    """
    teacher.check_examples(task.input_shape)
    batch = teacher.opened.input.batch
    if batch not in (None, 1):
        raise TeacherError(
            f"a teacher to convert must take one image; {teacher.path.name} takes {batch} at a time. "
            "Export it with a free batch dimension."
        )
    if variant == "int8" and not len(images):
        raise DataError("the representative images must be at least one; got none. Raise quantize.calibration_images.")
    signature = tf.TensorSpec([1, *task.input_shape], tf.float32, name=INPUT_NAME)
    function = tf.function(lambda image: _probabilities(teacher, image), autograph=False)
    try:
        concrete = function.get_concrete_function(signature)
        # With the model itself, the converter would trace its layers one by one, which takes minutes.
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], function)
        if variant != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if variant == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if variant == "int8":
            # The two extremes give the input the scale 1, so that pixels are represented exactly.
            shown = [*modality_of(task).student_input.extremes(task.input_shape), *images]
            converter.representative_dataset = lambda: ([image[None].astype(np.float32)] for image in shown)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        data = converter.convert()
    except Exception as error:  # converter and TensorFlow raise errors of all types for such models
        raise TeacherError(
            f"teacher {teacher.path.name} cannot be converted to {variant}: {_reason(error)}."
        ) from error
    return finish(data)


def _probabilities(teacher: LoadedTeacher, image: tf.Tensor) -> tf.Tensor:
    if teacher.output == "logits" or teacher.outputs == 1:
        return tf.nn.softmax(teacher.tf_logits(image))
    values = teacher.apply(lambda inputs: teacher.opened.call(inputs, False), image)
    if teacher.class_order is None:
        return values
    chosen = tf.gather(values, teacher.class_order, axis=-1)
    everything = len(teacher.class_order) == teacher.outputs
    return chosen if everything else chosen / tf.reduce_sum(chosen, axis=-1, keepdims=True)


def _reason(error: Exception) -> str:
    """Gives the reason in one line, since the converter's message consists of pages of call sites."""
    text = str(error)
    found = _OPERATOR.findall(text)
    if found:
        names = dict.fromkeys(name.strip() for group in found for name in ",".join(group).split(",") if name.strip())
        return f"TensorFlow Lite has no operator of its own for {', '.join(names)}"
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return lines[0][:300].rstrip(".")
