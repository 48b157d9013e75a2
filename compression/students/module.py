# SPDX-License-Identifier: Apache-2.0
"""Students of a user's own architecture: runs the module, checks its models, and joins them into one family.

The contract is in docs/how-to/own_students.md. Models that do not satisfy it are refused here, before training; each
message names the student or the layer, and the remedy.
"""

import re
import sys
import tempfile
import traceback
import types
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.model import cut_students
from learn2compress.compression.graphs.flattening import flatten_models
from learn2compress.compression.graphs.traced_graph import GraphFacts, read_graph
from learn2compress.schemas.errors import StudentModuleError
from learn2compress.schemas.module_source import ModuleSource

MAX_STUDENTS = 6
DEFAULT_NAME = "student"  # of a single student whose model has no name
_AUTOMATIC = re.compile(r"(model|functional|sequential)(_\d+)?")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_PROBABILITIES = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


def build_students(
    source: ModuleSource, input_shape: tuple[int, int, int], classes: int, seed: int = 0
) -> tuple[keras.Model, tuple[str, ...]]:
    """Build the students of a user's module as one family.

    Args:
        source: Source of the user's module.
        input_shape: (height, width, channels) of an image.
        classes: Number of classes.
        seed: Seed of all random numbers while the students are built; equal seeds give equal weights.

    Returns:
        A functional model without nested models, with input [batch, height, width, channels] float32 and one output of
        logits [batch, classes] float32 per student; and the names of the students, fewest parameters first.

    Raises:
        StudentModuleError: The module cannot be run, or its models do not satisfy the contract.
    """
    function = _function(source)
    keras.backend.reset_uids()  # layers without a name get the same automatic name in every build
    keras.utils.set_random_seed(seed)
    with keras.utils.custom_object_scope(custom_layers(source)):
        built = _calling(source, lambda: function(input_shape, classes))
        models, names = _by_student(source, built, input_shape)
        _check_sizes(models, input_shape, classes)
        joint = flatten_models(models, input_shape, "family")
    students = cut_students(joint, names)
    names = tuple(sorted(students, key=lambda name: students[name].count_params()))
    for name in names:
        _check_student(name, students[name])
    family = keras.Model(joint.input, [students[name].output for name in names], name="family")
    _check_scaling(family)
    _check_finite(family, names)
    _check_saving(family, source)
    return family, names


def custom_layers(source: ModuleSource) -> dict[str, type]:
    """List the layer classes that a module defines, by the name that Keras uses in saved models.

    Raises:
        StudentModuleError: The module cannot be run.
    """
    namespace = vars(_run(source))
    return {
        name: value
        for name, value in namespace.items()
        if isinstance(value, type)
        and issubclass(value, keras.layers.Layer)
        and value.__module__ == namespace["__name__"]
    }


def student_graph(student: keras.Model) -> GraphFacts:
    """Read the MACs of a student and the operation that computes its output from its graph."""
    signature = tf.TensorSpec([1, *student.input_shape[1:]], tf.float32)
    function = tf.function(lambda image: student(image, training=False), autograph=False)
    return read_graph(function.get_concrete_function(signature), 1)


@lru_cache(maxsize=8)
def _run(source: ModuleSource) -> types.ModuleType:
    """Execute the module, once in this process."""
    module = types.ModuleType(f"learn2compress_students_{source.sha256[:12]}")
    module.__file__ = source.name
    try:
        code = compile(source.text, source.name, "exec")
    except SyntaxError as error:
        raise StudentModuleError(
            f"{source.name} must be Python; line {error.lineno}: {error.msg}. Correct it."
        ) from error
    sys.modules[module.__name__] = module  # so that classes can be found by the name of their module
    try:
        _calling(source, lambda: exec(code, vars(module)))
    except StudentModuleError:
        del sys.modules[module.__name__]
        raise
    return module


def _function(source: ModuleSource) -> Callable[[tuple[int, int, int], int], Any]:
    function = getattr(_run(source), source.function, None)
    if not callable(function):
        defined = sorted(
            name
            for name, value in vars(_run(source)).items()
            if isinstance(value, types.FunctionType) and name[0] != "_"
        )
        raise StudentModuleError(
            f"{source.name} must have a function {source.function}(input_shape, classes); it has "
            f"{', '.join(defined) or 'none'}. Name the right one: students.module: {source.name}:FUNCTION."
        )
    return function


def _calling(source: ModuleSource, call: Callable[[], Any]) -> Any:
    """Run the user's code; report an error in it with its line number."""
    try:
        return call()
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == source.name]
        place = f", line {lines[-1]}" if lines else ""
        reason = " ".join(str(error).split())[:300]
        raise StudentModuleError(
            f"{source.name} must build the students without an error; got {type(error).__name__}: {reason}{place}. "
            "Correct it there."
        ) from error


def _by_student(
    source: ModuleSource, built: Any, input_shape: tuple[int, int, int]
) -> tuple[dict[str, keras.Model], tuple[str, ...]]:
    """Return the models to join, and a name for each of their outputs."""
    where = f"{source.name}:{source.function}"
    models: dict[Any, Any] = dict(built) if isinstance(built, Mapping) else {None: built}
    names: list[Any] = []
    for key, model in models.items():
        _check_model(f"what {where} returns" if key is None else f"student {key!r} of {where}", model, input_shape)
        if key is not None and len(model.outputs) != 1:
            raise StudentModuleError(
                f"student {key!r} must have one output, the logits; got {len(model.outputs)}. "
                "Return a model each, or one model with several outputs by itself."
            )
        names += [key] if key is not None else _output_names(model)
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise StudentModuleError(
                f"a student's name must be letters, digits and underscores, and begin with a letter; got {name!r}. "
                "It becomes part of a file's name."
            )
    if not 1 <= len(names) <= MAX_STUDENTS or len(set(names)) < len(names):
        raise StudentModuleError(
            f"{where} must build one to {MAX_STUDENTS} students of different names; got {', '.join(names) or 'none'}."
        )
    return {key or "family": model for key, model in models.items()}, tuple(names)


def _output_names(model: keras.Model) -> list[str]:
    """Return the keys of named outputs, otherwise the name of a model with one output, or of the last layers."""
    if isinstance(model.output, Mapping):
        return sorted(model.output)
    if len(model.outputs) == 1:
        return [DEFAULT_NAME if _AUTOMATIC.fullmatch(model.name) else model.name]
    return list(model.output_names)


def _check_model(what: str, model: Any, input_shape: tuple[int, int, int]) -> None:
    if any(kind.__module__.split(".")[0] == "keras" for kind in type(model).__mro__):
        raise StudentModuleError(
            f"{what} must be a model of Keras 2, which tfmot needs; got a {type(model).__name__} of Keras 3. "
            "Write `import tf_keras as keras` in the module."
        )
    if not isinstance(model, keras.Model):
        raise StudentModuleError(
            f"{what} must be a tf_keras model, or a mapping of names to models; got a {type(model).__name__}. "
            "Return keras.Model(image, logits)."
        )
    if isinstance(model, keras.Sequential) and not model.built:
        model.build((None, *input_shape))
    if not getattr(model, "_is_graph_network", False):
        raise StudentModuleError(
            f"{what} must be a functional model; got the subclassed model {type(model).__name__}, which can be neither "
            "copied nor saved. Build it with keras.Model(inputs, outputs); a part of it may be a keras.layers.Layer."
        )


def _check_sizes(models: Mapping[str, keras.Model], input_shape: tuple[int, int, int], classes: int) -> None:
    for name, model in models.items():
        got = [tuple(tensor.shape[1:]) for tensor in model.inputs]
        fits = len(got) == 1 and len(got[0]) == 3
        if not fits or any(own not in (None, side) for own, side in zip(got[0], input_shape, strict=True)):
            raise StudentModuleError(
                f"model {name!r} must take images of {_shape(input_shape)}; its input is "
                f"{' and '.join(map(_shape, got))}. Use keras.Input(input_shape)."
            )
        for output in model.outputs:
            if output.shape.rank != 2 or output.shape[-1] != classes:
                raise StudentModuleError(
                    f"model {name!r} must give {classes} logits an image, one a class; its output is "
                    f"{_shape(tuple(output.shape[1:]))}. End with keras.layers.Dense(classes)."
                )


def _check_student(name: str, student: keras.Model) -> None:
    facts = student_graph(student)
    if facts.end in _PROBABILITIES:
        raise StudentModuleError(
            f"student {name!r} must give logits; its last operation is a {_PROBABILITIES[facts.end]}, which "
            "converts them to probabilities. Leave the last activation out: keras.layers.Dense(classes)."
        )
    if facts.macs is None:
        raise StudentModuleError(
            f"student {name!r} must consist of operations that TensorFlow Lite supports; some are hidden in a loop or "
            "condition (a recurrent layer, tf.while_loop, tf.py_function). Unroll the loop, or leave the layer out."
        )


def _check_scaling(family: keras.Model) -> None:
    """Refuse a student that scales pixels of 0..255, since inputs between -1 and 1 would become almost constant."""
    for layer in family.layers:
        if (
            isinstance(layer, keras.layers.Rescaling)
            and any(node.input_tensors is family.input for node in layer.inbound_nodes)
            and np.max(np.abs(layer.scale)) < 0.1
        ):
            raise StudentModuleError(
                f"layer {layer.name!r} must not scale pixels of 0..255: images enter between -1 and 1, got a scale of "
                f"{np.max(np.abs(layer.scale)):.4g}. Leave it out, or put Rescaling(127.5, 127.5) before it."
            )


def _check_finite(family: keras.Model, names: tuple[str, ...]) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (2, *family.input_shape[1:])).astype(np.float32)
    for name, logits in zip(names, tf.nest.flatten(family(images, training=False)), strict=True):
        if not np.all(np.isfinite(logits)):
            raise StudentModuleError(
                f"student {name!r} must give finite logits as it is built; it does not on random images. "
                "Check its initial weights and its arithmetic."
            )


def _check_saving(family: keras.Model, source: ModuleSource) -> None:
    """Check that Keras can save and load the students, since nodes pass them on as files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "family.h5")
        try:
            family.save(path, include_optimizer=False)
            keras.models.load_model(path, compile=False, custom_objects=custom_layers(source))
        except (TypeError, ValueError, NotImplementedError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise StudentModuleError(
                f"the students must be such that Keras can save and load them; got {reason}. Use layers of tf_keras, "
                "or of your own with a get_config, in place of Lambda."
            ) from error


def _shape(shape: tuple) -> str:
    return "x".join("any" if side is None else str(side) for side in shape) or "a scalar"
