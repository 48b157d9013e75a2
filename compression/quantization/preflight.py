# SPDX-License-Identifier: Apache-2.0
"""Preflight: determines before training, by a trial, how each layer can be quantized, so that no run fails after hours.

    quantization-aware  tfmot supports the layer: it is trained with rounded weights and rounded output output-only
    tfmot refuses the layer; with only its output rounded the file of its student is full int8 post-training       the
    student of the layer cannot be trained for 8 bits, and is quantized as a whole after training
    float               even then the layer stays in float in the int8 file, whose name says so: mixed

The ranges of a file are either all learned or all determined after training, so a single layer that cannot be trained
for 8 bits determines the method of its student; the other students are not affected. The trials are the real
operations: tfmot on the layer, tfmot on all students together, a training step, and the converter on each student.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.model import cut_students
from learn2compress.compression.family.spec import Cost
from learn2compress.compression.graphs.flattening import arguments_of
from learn2compress.compression.quantization.conversion import (
    convert_float,
    convert_mixed,
    convert_post_training,
    convert_quantization_aware,
)
from learn2compress.compression.quantization.qat import calibrate, quantization_aware
from learn2compress.schemas.errors import StudentModuleError
from learn2compress.schemas.manifests import LayerQuantization, Student, quantized_how
from learn2compress.tflite.model_file import ModelFile, prove_full_int8
from learn2compress.tflite.parsed_file import ParsedFile, parse_file

# tfmot folds batch normalization into these layers, and supports it only behind them.
_FOLDED_INTO = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D, keras.layers.Dense)
_OPERATIONS = {"TFOpLambda", "SlicingOpLambda"}  # layers that Keras creates for `x * 2`
_IMAGES = 4


@dataclass(frozen=True)
class StudentPlan:
    """Result of preflight for one student.

    Attributes:
        layers: Quantization method of each layer.
        parameters: Number of parameters of its float file, in which batch normalization is folded.
        macs: Multiply-accumulates for one image.
    """

    layers: tuple[LayerQuantization, ...]
    parameters: int
    macs: int


def trained_for_8_bits(layers: Sequence[LayerQuantization]) -> bool:
    """Tells whether a student with these layers can be trained for 8 bits."""
    return not {layer.method for layer in layers} & {"post-training", "float"}


def output_only_layers(students: Sequence[Student]) -> set[str]:
    """Lists the layers of which only the output is rounded in quantization-aware training."""
    return {layer.layer for student in students for layer in student.preflight if layer.method == "output-only"}


def preflight(family: keras.Model, names: Sequence[str]) -> dict[str, StudentPlan]:
    """Tries all operations that follow the training of the students.

    Args:
        family: Functional model without nested models, with an output for each name. Its weights are changed.
        names: Names of the students.

    Returns:
        The result by student.

    Raises:
        StudentModuleError: A student cannot be converted to a TensorFlow Lite file at all.
    """
    _perturb_weights(family)
    students = cut_students(family, tuple(names))
    floats = {name: _float_file(name, student) for name, student in students.items()}
    trials = _Trials()
    refused = {layer.name: why for layer in _layers(family) if (why := trials.refused(layer))}
    untrainable = {
        name: f"{why}, nor its output alone"
        for name, why in refused.items()
        if trials.refused(family.get_layer(name), output_only=True)
    }
    left = tuple(
        name for name, student in students.items() if not any(layer.name in untrainable for layer in student.layers)
    )
    failed = _try_training(family, tuple(names), left, set(refused))
    plans = {}
    for name, student in students.items():
        if name in left and name not in failed:
            layers = [
                _row(layer, "output-only", refused[layer.name])
                if layer.name in refused
                else _row(layer, "quantization-aware")
                for layer in _layers(student)
            ]
        else:
            bad = {layer.name: untrainable[layer.name] for layer in _layers(student) if layer.name in untrainable}
            bad = bad or _floating(student, trials, refused)
            layers = _after_training(name, student, trials, bad, failed.get(name, ""))
        plans[name] = StudentPlan(tuple(layers), floats[name].parameters, floats[name].macs)
    return plans


def file_costs(family: keras.Model, names: Sequence[str]) -> dict[str, Cost]:
    """Counts the parameters and MACs of each student in its float file, as `preflight` does.

    Args:
        family: Functional model with an output for each name.
        names: Names of the students.

    Raises:
        StudentModuleError: A student cannot be converted.
    """
    files = {name: _float_file(name, student) for name, student in cut_students(family, tuple(names)).items()}
    return {name: Cost(file.parameters, file.macs) for name, file in files.items()}


def describe_preflight(plans: Mapping[str, StudentPlan]) -> str:
    """Describes each student in a line, followed by a line for each reason why layers are not trained for 8 bits."""
    lines = []
    for name, plan in plans.items():
        lines.append(f"{name}: {len(plan.layers)} layers, quantization: {quantized_how(plan.layers)}")
        reasons: dict[tuple[str, str], list[str]] = {}
        for layer in plan.layers:
            if layer.method != "quantization-aware":
                reasons.setdefault((layer.method, layer.why), []).append(f"{layer.layer} ({layer.type})")
        lines += [f"  {method}: {_some(layers)} – {why}" for (method, why), layers in reasons.items()]
    return "\n".join(lines)


class _Trials:
    """Trials of single layers, with the results of equal layers cached."""

    def __init__(self) -> None:
        self._found: dict[tuple, str] = {}

    def refused(self, layer: keras.layers.Layer, output_only: bool = False) -> str:
        """Gives the reason why tfmot does not support a layer; empty if it does."""
        if not output_only and _is_folded(layer):
            return ""
        if type(layer).__name__ in _OPERATIONS:
            return "tfmot supports no bare TensorFlow operation"
        return self._remember(layer, f"wrap {output_only}", lambda: _wrap(_alone(layer), output_only))

    def stays_float(self, layer: keras.layers.Layer, aware: bool, output_only: bool = False) -> str:
        """Gives the reason why the file of a single layer is not full int8; empty if it is."""
        if aware and _is_folded(layer) and not output_only:
            return ""
        return self._remember(
            layer, f"convert {aware} {output_only}", lambda: _convert_alone(_alone(layer), aware, output_only)
        )

    def _remember(self, layer: keras.layers.Layer, what: str, attempt: Callable[[], str]) -> str:
        config = {key: value for key, value in layer.get_config().items() if key != "name"}
        # The shapes of the first call: a layer that is called in several places may have several.
        shapes = [str(tensor.shape) for tensor in tf.nest.flatten(layer.inbound_nodes[0].input_tensors)]
        key = (what, type(layer), json.dumps(config, sort_keys=True, default=repr), *shapes)
        if key not in self._found:
            self._found[key] = _reason_of(attempt)
        return self._found[key]


def _try_training(
    family: keras.Model, names: tuple[str, ...], left: tuple[str, ...], output_only: set[str]
) -> dict[str, str]:
    """Finds which of the remaining students cannot be trained for 8 bits, and the reason by student."""
    if not left:
        return {}
    part = outputs_of(family, names, left)
    made: list[keras.Model] = []

    def train() -> str:
        aware = quantization_aware(part, True, output_only)  # as after pruning, the stricter case
        images = _random_images(family)
        calibrate(aware, part, [images])
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_mean(output**2) for output in tf.nest.flatten(aware(images, training=True))])
        if any(g is None for g in tape.gradient(loss, aware.trainable_variables)):
            return "some of its weights have no gradient"
        made.append(aware)
        return ""

    why = _reason_of(train)
    if why:
        return dict.fromkeys(left, why)
    return {
        name: why
        for name, student in cut_students(made[0], left).items()
        if (why := _reason_of(partial(_int8_faults, student)))
    }


def _int8_faults(student: keras.Model) -> str:
    return _unproved(convert_quantization_aware(student, "int8"))


def _floating(student: keras.Model, trials: _Trials, refused: Mapping[str, str]) -> dict[str, str]:
    """Finds the layers that would stay in float in the file of a student after quantization-aware training."""
    found = {}
    for layer in _layers(student):
        why = trials.stays_float(layer, aware=True, output_only=layer.name in refused)
        if why:
            start = (
                f"{refused[layer.name]}; with its output alone rounded"
                if layer.name in refused
                else "trained for 8 bits"
            )
            found[layer.name] = f"{start}, its file has {why}"
    return found


def _after_training(
    name: str, student: keras.Model, trials: _Trials, bad: Mapping[str, str], failed: str
) -> list[LayerQuantization]:
    """Describes the layers of a student that is quantized as a whole, or as far as possible, after training."""
    images = np.rint((_random_images(student) + 1) * 127.5).astype(np.uint8)
    faults = _reason_of(lambda: _unproved(convert_post_training(student, "int8", images)))
    if faults:
        _convert_or_refuse(name, lambda: convert_mixed(student, "int8", images), "as int8")
    others = f"its student has {_some(list(bad))}" if bad else f"its student cannot be trained for 8 bits: {failed}"
    rows = []
    for layer in _layers(student):
        floats = trials.stays_float(layer, aware=False) if faults else ""
        if floats:
            rows.append(_row(layer, "float", f"quantized after training, its file has {floats}"))
        else:
            rows.append(_row(layer, "post-training", bad.get(layer.name, others)))
    if faults and not any(row.method == "float" for row in rows):
        # Each layer can be quantized on its own but not all together, and no single layer can be named as the cause.
        rows = [row.model_copy(update={"method": "float", "why": f"its student's file has {faults}"}) for row in rows]
    return rows


def outputs_of(family: keras.Model, names: Sequence[str], wanted: Sequence[str]) -> keras.Model:
    """Selects the outputs of some students of a family.

    Args:
        family: Functional model with an output for each name.
        names: Names of all students, in the order of the outputs.
        wanted: Names of the selected students.

    Returns:
        A model with these outputs, which shares its variables with the family unless a layer selects students itself.
    """
    if tuple(names) == tuple(wanted):
        return family
    for layer in family.layers:
        if hasattr(layer, "select_students"):
            return layer.select_students(family, names, wanted)
    outputs = dict(zip(names, tf.nest.flatten(family.output), strict=True))
    return keras.Model(family.input, [outputs[name] for name in wanted], name=family.name)


def _float_file(name: str, student: keras.Model) -> ModelFile:
    return _convert_or_refuse(name, lambda: convert_float(student, "float32")).facts


def _convert_or_refuse(name: str, convert: Callable[[], ParsedFile], how: str = "") -> ParsedFile:
    made: list[ParsedFile] = []

    def attempt() -> str:
        made.append(convert())
        return ""

    why = _reason_of(attempt)
    if why:
        raise StudentModuleError(
            f"student {name!r} must be one that TensorFlow Lite can run{' ' + how if how else ''}; {why}. "
            "Build it from other layers."
        )
    return made[0]


def _unproved(converted: ParsedFile) -> str:
    """Gives the reason why a file is not full int8; empty if it is."""
    proof = prove_full_int8(converted.facts)
    if proof.float_tensors:
        return f"{len(proof.float_tensors)} float tensors"
    return "; ".join(proof.reasons)


def _is_folded(layer: keras.layers.Layer) -> bool:
    if not isinstance(layer, keras.layers.BatchNormalization):
        return False
    before = layer.inbound_nodes[0].inbound_layers
    return isinstance(before, keras.layers.Layer) and type(before) in _FOLDED_INTO


def _alone(layer: keras.layers.Layer) -> keras.Model:
    """Builds a model of a new layer of the same configuration alone."""
    node = layer.inbound_nodes[0]
    tensors = tf.nest.flatten(node.input_tensors)
    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in tensors]
    values = {str(id(old)): new for old, new in zip(tensors, inputs, strict=True)}
    arguments, keywords = arguments_of(node, values)
    return keras.Model(inputs, type(layer).from_config(layer.get_config())(*arguments, **keywords))


def _wrap(model: keras.Model, output_only: bool) -> str:
    quantization_aware(model, False, {layer.name for layer in _layers(model)} if output_only else ())
    return ""


def _convert_alone(model: keras.Model, aware: bool, output_only: bool) -> str:
    if aware:
        model = quantization_aware(model, False, {layer.name for layer in _layers(model)} if output_only else ())
    signature = [tf.TensorSpec([1, *tensor.shape[1:]], tf.float32) for tensor in model.inputs]
    function = tf.function(
        lambda *inputs: model(list(inputs) if len(inputs) > 1 else inputs[0], training=False), autograph=False
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function(*signature)], function)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if not aware:
        rng = np.random.default_rng(0)

        def representative() -> Iterator[list[np.ndarray]]:
            for _ in range(_IMAGES):
                yield [rng.uniform(-1, 1, spec.shape).astype(np.float32) for spec in signature]

        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return _unproved(parse_file(converter.convert()))


def _reason_of(attempt: Callable[[], str]) -> str:
    """Runs an attempt and returns its reason of failure, or its error, in one line; empty if it succeeded."""
    try:
        return attempt()
    # tfmot, Keras and the converter raise errors of all types, and any of them is the result of the trial.
    except Exception as error:
        unknown = re.search(r"Layer \S+:<class '\S+?(\w+)'> is not supported", str(error))
        if unknown:
            return f"tfmot does not support {unknown[1]}"
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text[:160]}{'…' if len(text) > 160 else ''}"


def _perturb_weights(model: keras.Model) -> None:
    """Changes initial weights slightly, since the converter would remove biases of zero and factors of one."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.dtype == tf.float32:
            variable.assign_add(rng.uniform(1e-3, 2e-3, variable.shape).astype(np.float32))


def _random_images(model: keras.Model) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (_IMAGES, *model.input_shape[1:])).astype(np.float32)


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _row(layer: keras.layers.Layer, method: str, why: str = "") -> LayerQuantization:
    return LayerQuantization(layer=layer.name, type=type(layer).__name__, method=method, why=why)
