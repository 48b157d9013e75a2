# SPDX-License-Identifier: Apache-2.0
"""Opening a model file, whatever its format, as one thing: a function from prepared images to numbers.

What the numbers mean is classifier.py's concern, and what is done to an example before is the modality's. Here are
only the differences between Keras 3, Keras 2 and SavedModels: who loads it, where its input and its outputs are named.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow as tf

from learn2compress.compression.teacher.formats import FileDescription
from learn2compress.compression.teacher.trust import check_graph, check_layers, check_registered
from learn2compress.modalities import InputFiles, Modality, modality_named
from learn2compress.modalities.protocol import TeacherInput
from learn2compress.schemas.errors import TeacherError

_SUFFIXES = {"keras": (".keras",), "h5": (".h5", ".hdf5")}


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model that is ready to be called.

    call: (the tensor that `input` prepares, training) -> the chosen output.
    input: what the model takes.
    parameters: counted over its variables; None where it has none to count, all being constants of a graph.
    keras_model: with one input and one output, for training and for its layers; None for a SavedModel.
    owner: what has to stay alive for `call` to work.
    names: the tensor that `input` prepares -> names of the classes in the order of the output, [batch, outputs] string,
        where the model returns them.
    """

    call: Callable[[tf.Tensor, bool], tf.Tensor]
    input: TeacherInput
    parameters: int | None
    keras_model: Any | None
    owner: Any
    names: Callable[[tf.Tensor], tf.Tensor] | None = None


def open_model(
    description: FileDescription,
    signature: str | None,
    output_name: str | None,
    modality: Modality | None = None,
    files: InputFiles | None = None,
    trust: bool = False,
) -> OpenedModel:
    """Load a described file, unless it could do more than compute; see trust.py.

    Args:
        signature: of a SavedModel; None takes serving_default, or the only one.
        output_name: which of several outputs to use.
        modality: of the examples; default: images.
        files: files beside the model by which examples become its input.
        trust: whether a SavedModel may use files, the network or Python.

    Raises:
        TeacherError: it cannot be loaded, it could do more than compute, it is no classifier of such examples, or a
            choice has to be made or is wrong.
    """
    modality, files = modality or modality_named(), files or InputFiles()
    check_layers(description)
    check_graph(description.path, trust)
    if description.format == "saved-model":
        return _open_saved_model(description.path, signature, output_name, modality, files)
    if signature is not None:
        raise TeacherError(
            f"teacher.signature must be left out for a Keras file; got '{signature}' for {description.path}, "
            "which has none."
        )
    return _open_keras(description, output_name, modality, files)


def keras_library(model_format: str) -> ModuleType:
    """Import the Keras that a format belongs to: Keras 3 or tf_keras.

    Raises:
        TeacherError: Keras 3 is set up to compute with something other than TensorFlow.
    """
    if model_format.startswith("keras2"):
        import tf_keras

        return tf_keras
    import keras

    if keras.backend.backend() != "tensorflow":
        raise TeacherError(
            f"Keras must run on TensorFlow; got the backend '{keras.backend.backend()}'. Set KERAS_BACKEND=tensorflow."
        )
    return keras


@contextmanager
def before_softmax(model: Any) -> Iterator[bool]:
    """While the block runs, a Keras model that ends in a softmax gives what that is taken of.

    Yields:
        Whether it does: its last layer must have the softmax as its activation, and be called in no other place.
    """
    layer = model
    while hasattr(layer, "layers"):
        layer = layer.outputs[0]._keras_history[0]
    softmax = getattr(layer, "activation", None)
    if getattr(softmax, "__name__", None) != "softmax" or len(layer._inbound_nodes) != 1:
        yield False
        return
    layer.activation = lambda values: values
    try:
        yield True
    finally:
        layer.activation = softmax


def _open_keras(
    description: FileDescription, output_name: str | None, modality: Modality, files: InputFiles
) -> OpenedModel:
    path, library = description.path, keras_library(description.format)
    model = _load_keras(description, library)
    if not getattr(model, "inputs", None):
        raise TeacherError(
            f"teacher {path} must be a model built of layers on a known input; got {type(model).__name__} "
            "without one. "
            "Call it once on examples before saving, or export it as a SavedModel."
        )
    specs = {_input_name(one): tf.TensorSpec(tuple(one.shape), tf.as_dtype(one.dtype)) for one in model.inputs}
    read = modality.teacher_input(path, specs, files)
    index = 0
    if len(model.outputs) > 1 or output_name is not None:
        names = _output_names(model)
        index = _choose_output(path, names, model.outputs, output_name)
    if len(model.outputs) > 1 or not _is_bare(model, library):
        # One tensor in and one out, or a list of tensors in, whatever the model was declared with.
        inputs = model.inputs if len(specs) > 1 else model.inputs[0]
        model = library.Model(inputs, model.outputs[index], name=model.name)

    def call(prepared: tf.Tensor, training: bool) -> tf.Tensor:
        given = read.arguments(prepared)
        return model([given[name] for name in specs] if len(specs) > 1 else prepared, training=training)

    return OpenedModel(
        call=call,
        input=read,
        parameters=model.count_params(),
        keras_model=model,
        owner=model,
    )


def _input_name(tensor: Any) -> str:
    return str(tensor.name).split(":")[0]


def _load_keras(description: FileDescription, library: ModuleType) -> Any:
    """Load without the optimizer and losses, which teaching does not need and which may be custom."""
    path = description.path.resolve()
    suffixes = _SUFFIXES[description.format.partition("-")[2]]
    try:
        if path.suffix in suffixes:
            return library.models.load_model(path, compile=False)
        # Keras goes by the name's ending, and we by what is in the file.
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder, "teacher" + suffixes[0])
            os.symlink(path, link)
            return library.models.load_model(link, compile=False)
    except Exception as error:  # the loaders raise whatever a layer's constructor does
        raise _keras_failure(description, error) from error


_MISSING = re.compile(
    r"Could not locate (?:class|function) '([^']+)'"
    r"|Cannot deserialize object of type `([^`]+)`"
    r"|Received: layer=(\w+) of type <class 'str'>"
    r"|Unknown (?:layer|object|[a-z_ ]*function): '?([\w>.]+)'?"
)


def _keras_failure(description: FileDescription, error: Exception) -> TeacherError:
    missing = _MISSING.search(str(error))
    if missing:
        name = next(group for group in missing.groups() if group)
        return TeacherError(
            f"teacher {description.path} must be made of Keras' own layers; got the custom object "
            f"'{name}', whose "
            "code is not in the file. Export the model as a SavedModel, which holds its computation: "
            "model.export(FOLDER), or tf.saved_model.save(model, FOLDER)."
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return TeacherError(
        f"teacher {description.path} must load as a model of Keras {description.keras_version}; "
        f"got: {lines[0][:300].rstrip('.')}. Save it again, or export it as a SavedModel."
    )


def _output_names(model: Any) -> list[str]:
    names = getattr(model, "output_names", None)
    # A Sequential of Keras 3 has no names for outputs: its last layer's serves.
    return list(names) if names else [model.layers[-1].name]


def _is_bare(model: Any, library: ModuleType) -> bool:
    """Tell whether a model takes a tensor and returns one, not lists or dictionaries of them."""
    # A Sequential always does; Keras 3's has no `input` to look at.
    return isinstance(model, library.Sequential) or not any(
        isinstance(part, list | tuple | dict) for part in (model.input, model.output)
    )


def _open_saved_model(
    path: Path, signature: str | None, output_name: str | None, modality: Modality, files: InputFiles
) -> OpenedModel:
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # protobuf, file and graph errors of every kind
        check_registered(path, str(error))
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise TeacherError(
            f"teacher {path} must load as a SavedModel; got: {lines[0][:300].rstrip('.')}. Export it again."
        ) from error
    # A loaded object need not have signatures at all.
    signatures = dict(getattr(loaded, "signatures", {}))
    name = _choose_signature(path, list(signatures), signature)
    function = signatures[name]
    inputs: dict[str, tf.TensorSpec] = function.structured_input_signature[1]
    read = modality.teacher_input(path, inputs, files)
    names, tensors = zip(*function.structured_outputs.items(), strict=True)
    output = names[_choose_output(path, names, tensors, output_name)]
    words = [name for name, tensor in zip(names, tensors, strict=True) if tensor.dtype == tf.string]
    variables = {variable.ref(): variable for variable in function.variables}.values()
    return OpenedModel(
        call=lambda prepared, training: function(**read.arguments(prepared))[output],  # noqa: ARG005
        input=read,
        parameters=sum(variable.shape.num_elements() for variable in variables) or None,
        keras_model=None,
        owner=loaded,
        names=(lambda prepared: function(**read.arguments(prepared))[words[0]]) if len(words) == 1 else None,
    )


def _choose_signature(path: Path, names: list[str], wanted: str | None) -> str:
    if not names:
        raise TeacherError(
            f"teacher {path} must have a serving signature; got none. Export it with "
            "tf.saved_model.save(model, FOLDER, signatures=FUNCTION), or model.export(FOLDER)."
        )
    if wanted is not None:
        if wanted not in names:
            raise TeacherError(
                f"teacher.signature must be one of {', '.join(sorted(names))}; got '{wanted}' for {path}. "
                "Choose one of them."
            )
        return wanted
    if "serving_default" in names:
        return "serving_default"
    if len(names) > 1:
        raise TeacherError(
            f"teacher {path} must have the signature serving_default, or one alone; got "
            f"{', '.join(sorted(names))}. "
            "Set teacher.signature to one of them."
        )
    return names[0]


def _is_vector_of_scores(tensor: Any) -> bool:
    """Tell whether an output is [batch, classes] of floats; of Keras 3, its type is text and its shape a tuple."""
    shape = tf.TensorShape(tensor.shape)
    return bool(tf.as_dtype(tensor.dtype).is_floating) and shape.rank == 2


def _choose_output(path: Path, names: Sequence[str], tensors: Sequence[Any], wanted: str | None) -> int:
    """Find an output by its name, where no other has it, or by its index."""
    unique = len(set(names)) == len(names)
    ends = [f"{name} {_shape_text(tensor.shape)}" for name, tensor in zip(names, tensors, strict=True)]
    listed = ", ".join(ends if unique else (f"{index}: {end}" for index, end in enumerate(ends)))
    if wanted is None:
        if len(names) == 1:
            return 0
        scores = [i for i, tensor in enumerate(tensors) if _is_vector_of_scores(tensor)]
        if len(scores) == 1 and all(tf.as_dtype(t.dtype) == tf.string for i, t in enumerate(tensors) if i != scores[0]):
            return scores[0]  # beside the names of the classes
        raise TeacherError(
            f"teacher {path} must have one output, or the choice of one; got {listed}. "
            f"Set teacher.output, for instance teacher.output: {names[0] if unique else len(names) - 1}."
        )
    if names.count(wanted) == 1:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    remedy = "Choose one of them." if unique else "Choose one by its index."
    raise TeacherError(
        f"teacher.output must name an output of {path}; got '{wanted}', where there is {listed}. {remedy}"
    )


def _shape_text(shape: Any) -> str:
    if isinstance(shape, tf.TensorShape):
        if shape.rank is None:
            return "[?]"
        shape = shape.as_list()
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
