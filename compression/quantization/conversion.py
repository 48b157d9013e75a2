# SPDX-License-Identifier: Apache-2.0
"""Converts a Keras student to a .tflite file in each variant, and compacts and parses it.

float32    as trained; float input 0..255, normalized inside
float16    the same with weights stored in 16 bits
dynamic    weights in int8, activations quantized on the fly
int8       everything in int8, input and output too; input = pixel - 128
uint8      the same with uint8 input and output; input = pixel
"""

from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.quantization.folded_scales import sound_scales
from learn2compress.modalities import modality_named
from learn2compress.modalities.protocol import StudentInput
from learn2compress.schemas.errors import DataError
from learn2compress.tflite.parsed_file import ParsedFile, parse_file
from learn2compress.tflite.transformations.compaction import compact
from learn2compress.tflite.transformations.end_names import name_ends

INPUT_NAME = "image"
# Name of the output for an app; every variant ends in a softmax, whose int8 form has a fixed scale of 1/256.
OUTPUT_NAME = "probability"
INTEGER_TYPES = {"int8": tf.int8, "uint8": tf.uint8}


def with_app_input(student: keras.Model, inputs: StudentInput) -> keras.Model:
    """Builds the student for an app: it normalizes its input (images: floats 0..255) and outputs probabilities.

    Args:
        student: Model from normalized examples [batch, …] float32 to logits [batch, classes].
        inputs: Student input of the modality.
    """
    entered, normalized = inputs.app_input(student.input_shape[1:])
    probability = keras.layers.Softmax(name=OUTPUT_NAME)(student(normalized))
    return keras.Model(entered, probability, name=student.name)


def with_probabilities(student: keras.Model) -> keras.Model:
    """Adds a softmax to the output of a student; its input stays normalized."""
    return keras.Model(student.input, keras.layers.Softmax(name=OUTPUT_NAME)(student.output), name=student.name)


def _converter(student: keras.Model) -> tf.lite.TFLiteConverter:
    """Creates a converter of the student as a single function of one image.

    `TFLiteConverter.from_keras_model` writes a SavedModel first, for which every layer is traced separately; this takes
    about thirty times as long.
    """
    signature = tf.TensorSpec([1, *student.input_shape[1:]], student.inputs[0].dtype, name=INPUT_NAME)
    function = tf.function(lambda image: student(image, training=False), autograph=False)
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function(signature)], function)


def finish(data: bytes) -> ParsedFile:
    """Parses the output of the converter, names its input and output for an app, and compacts it."""
    return compact(name_ends(parse_file(data), INPUT_NAME, OUTPUT_NAME))


def convert_reference(student: keras.Model) -> ParsedFile:
    """Converts a float student for comparison with its int8 file: the same operators, with all of their names.

    Args:
        student: Student with normalized input, which is also the input of the file.
    """
    return parse_file(_converter(with_probabilities(student)).convert())


def convert_float(student: keras.Model, variant: str, inputs: StudentInput | None = None) -> ParsedFile:
    """Converts a float student.

    Args:
        student: Student with normalized input.
        variant: "float32", "float16" or "dynamic".
        inputs: Student input of the modality; default: images.
    """
    converter = _converter(with_app_input(student, inputs or modality_named().student_input))
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return finish(converter.convert())


def convert_quantization_aware(student: keras.Model, variant: str) -> ParsedFile:
    """Converts a student cut from a quantization-aware family.

    Args:
        student: Quantization-aware student with its ranges.
        variant: "int8" or "uint8".
    """
    converter = _converter(with_probabilities(student))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = INTEGER_TYPES[variant]
    with sound_scales(student):
        return finish(converter.convert())


def convert_post_training(
    student: keras.Model, variant: str, examples: Iterable[np.ndarray], inputs: StudentInput | None = None
) -> ParsedFile:
    """Converts a float student completely to 8 bits, with ranges from a representative data set.

    Args:
        student: Student with normalized input.
        variant: "int8" or "uint8".
        examples: Training examples as stored; images: each [h, w, c] uint8.
        inputs: Student input of the modality; default: images.

    Raises:
        DataError: There are no examples.
    """
    return _convert_by_examples(student, variant, examples, inputs, [])


def convert_mixed(
    student: keras.Model, variant: str, examples: Iterable[np.ndarray], inputs: StudentInput | None = None
) -> ParsedFile:
    """Converts a student as `convert_post_training`; operators without an 8-bit implementation stay in float."""
    return _convert_by_examples(student, variant, examples, inputs, [tf.lite.OpsSet.TFLITE_BUILTINS])


def _convert_by_examples(
    student: keras.Model, variant: str, examples: Iterable[np.ndarray], inputs: StudentInput | None, also: list
) -> ParsedFile:
    examples, inputs = list(examples), inputs or modality_named().student_input
    if not examples:
        raise DataError("the representative images must be at least one; got none. Raise quantize.calibration_images.")

    def representative() -> Iterator[list[np.ndarray]]:
        return ([batch] for batch in inputs.representative(student.input_shape[1:], examples))

    converter = _converter(with_probabilities(student))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    # Newer converters use a scale for each class, 8 bytes a class; after quantization-aware training there is one scale
    # for all. Older converters always use one scale and ignore this setting.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    # Without the additional set, an operator without an 8-bit implementation is an error instead of staying in float.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, *also]
    converter.inference_input_type = converter.inference_output_type = INTEGER_TYPES[variant]
    return finish(converter.convert())
