# SPDX-License-Identifier: Apache-2.0
"""Refuses a teacher's file that could do more than compute while it is loaded or run.

A Keras 2 file names the layers and functions to call: any function of TensorFlow through `TFOpLambda`, in a .keras file
any object of any Python module. A SavedModel's graph may hold operations that read or write files, use the network or
call Python. What is accepted is a list, so an unknown way in is refused. Keras 3 has such a check itself (safe mode).
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from learn2compress.compression.teacher.formats import FileDescription
from learn2compress.schemas.errors import TeacherError

_FUNCTION_LAYERS = ("TFOpLambda", "SlicingOpLambda")
_COMPUTING = ("math.", "nn.", "linalg.", "signal.", "image.", "__operators__.", "keras.activations.")
_COMPUTING_FUNCTIONS = {
    *("add_n", "argmax", "argmin", "broadcast_to", "cast", "clip_by_value", "concat", "convert_to_tensor", "einsum"),
    *("expand_dims", "gather", "identity", "matmul", "one_hot", "ones_like", "pad", "range", "repeat", "reshape"),
    *("reverse", "roll", "shape", "size", "slice", "split", "squeeze", "stack", "stop_gradient", "strided_slice"),
    *("tensordot", "tile", "transpose", "unstack", "where", "zeros_like", "tanh"),
}
_MODULES = (
    *("activations", "constraints", "engine", "initializers", "layers", "mixed_precision", "models", "regularizers"),
    *("src.engine", "src.layers"),
)
# Operations whose names hold one of these use files, the network or Python.
_OUTSIDE = (
    *("File", "PyFunc", "Rpc", "Grpc", "Summary", "Checkpoint", "LMDB", "TextLine", "TFRecord", "FixedLengthRecord"),
    *("Reader", "Print", "Debug", "Sql", "BigQuery", "Collective", "Send", "Recv", "Snapshot", "DataService"),
    *("RemoteCall", "LoadDataset", "SaveDataset", "LoadAndRemapMatrix", "GeneratorDataset", "FileSystem", "Subgraph"),
)
_UNREGISTERED = re.compile(r"Op type not registered '([^']+)'")
# Operations of tensorflow-text have names that hold one of these.
_TEXT_OPERATIONS = (
    *("TFText", "UTF8", "Wordpiece", "Sentencepiece", "WhitespaceTokenize", "UnicodeScript", "RegexSplit", "Ngrams"),
    *("BertNormaliz", "Split", "SentenceFragments", "MstMaxSpan", "Byte", "Trim", "Trie", "ConstrainedSequence"),
)
# TensorFlow's own saver writes and restores variables by these, in functions that only the saver calls.
_SAVER = {
    "DistributedSave",
    "MergeV2Checkpoints",
    "Restore",
    "RestoreSlice",
    "RestoreV2",
    "Save",
    "SaveSlices",
    "SaveV2",
}
_SAVER |= {"ShardedFilename", "ShardedFilespec"}


def check_layers(description: FileDescription) -> None:
    """Refuse a Keras 2 file whose configuration names anything but Keras' layers and functions that compute.

    Raises:
        TeacherError: It names another one.
    """
    if not description.format.startswith("keras2"):
        return
    for found in _strangers(description.model_config):
        raise TeacherError(
            f"teacher {description.path} must be made of Keras' own layers, which only compute; got {found[:80]!r}, "
            "which could do anything while it is loaded. Replace it by a layer, or export a SavedModel where its code "
            "is trusted."
        )


def _strangers(config: Any) -> Iterator[str]:
    """Yield what a configuration names that is not on the list, at any depth."""
    pending = [config]
    while pending:
        one = pending.pop()
        if isinstance(one, list):
            pending += one
        if not isinstance(one, dict):
            continue
        pending += one.values()
        name, inner = one.get("class_name"), one.get("config")
        if name in _FUNCTION_LAYERS:
            function = str(inner.get("function")) if isinstance(inner, dict) else str(inner)
            if not function.startswith(_COMPUTING) and function not in _COMPUTING_FUNCTIONS:
                yield f"{name} of {function}"
        elif isinstance(name, str) and isinstance(inner, dict) and name in _internal_layers():
            yield name
        if "class_name" in one and (module := one.get("module")) is not None and not _is_keras(str(module), one):
            yield f"{module}.{name}"


@cache
def _internal_layers() -> frozenset[str]:
    """List the classes that a file of tf_keras can name beyond the public ones, such as those that call a method.

    A name that is neither is a custom object, which the loader refuses.
    """
    import tf_keras
    from tf_keras.src.layers import serialization

    serialization.populate_deserializable_objects()
    public = {"Functional", "Model", "Sequential"}
    for part in ("layers", "initializers", "regularizers", "constraints", "mixed_precision", "models"):
        public |= set(vars(getattr(tf_keras, part)))
    older = ("AddLoss", "AddMetric", "BaseRandomLayer", "BatchNormalization", "GRU", "LSTM", "SyncBatchNormalization")
    return frozenset(name for name in set(serialization.LOCAL.ALL_OBJECTS) - public if not name.startswith(older))


def _is_keras(module: str, found: dict[str, Any]) -> bool:
    if module == "builtins":
        return found.get("class_name") == "function" and str(found.get("config")) in _activations()
    package, _, rest = module.partition(".")
    return package in ("keras", "tf_keras") and (not rest or rest.startswith(_MODULES))


def _activations() -> set[str]:
    import tf_keras

    return set(vars(tf_keras.activations)) - {"get", "deserialize", "serialize"}


def check_registered(path: Path, reason: str) -> None:
    """Name the package that a SavedModel needs, if it does not load because of an operation that TensorFlow lacks.

    Args:
        path: SavedModel folder.
        reason: Error of loading it.

    Raises:
        TeacherError: The error is one of such an operation.
    """
    found = _UNREGISTERED.search(reason)
    if found is None:
        return
    operation = found[1]
    if any(part in operation for part in _TEXT_OPERATIONS):
        raise TeacherError(
            f"teacher {path} must be made of TensorFlow's own operations; got {operation} of the package "
            "tensorflow-text, which is not loaded. Export the model without its preprocessing, with a signature of "
            "token ids, and set teacher.tokenizer to its tokenizer.json."
        )
    raise TeacherError(
        f"teacher {path} must be made of TensorFlow's own operations; got {operation}. Export it without it."
    )


def check_graph(path: Path, trusted: bool) -> None:
    """Refuse a SavedModel whose graph holds operations on files, the network, or Python.

    Args:
        path: SavedModel folder.
        trusted: Whether the user trusts it.

    Raises:
        TeacherError: It holds one and is not trusted, or cannot be read.
    """
    if trusted or not (path / "saved_model.pb").is_file():
        return
    outside = sorted(set(_operations(path)))
    if outside:
        raise TeacherError(
            f"teacher {path} must only compute; its graph has {', '.join(outside[:3])}, which may use files, the "
            "network or Python. If you trust whom it is from, set teacher.trust: true."
        )


def _operations(path: Path) -> Iterator[str]:
    """Yield the operations of the graphs and their functions that are not computation."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except (DecodeError, OSError) as error:
        raise TeacherError(f"teacher {path} must be a whole SavedModel; got: {error}. Export it again.") from error
    for graph in model.meta_graphs:
        functions = {one.signature.name: one.node_def for one in graph.graph_def.library.function}
        run = _reached(graph.object_graph_def, functions)
        for name, nodes in {"": graph.graph_def.node, **functions}.items():
            for node in nodes:
                if node.op in _SAVER:
                    if name in run:
                        yield node.op
                elif any(part in node.op for part in _OUTSIDE):
                    yield node.op


def _reached(objects: Any, functions: Mapping[str, Any]) -> set[str]:
    """Find the functions that run when the model is loaded or called, which the saver's own are not."""
    pending = list(objects.concrete_functions)
    for one in objects.nodes:
        for saveable in one.saveable_objects.values():
            numbers = (saveable.save_function, saveable.restore_function)
            pending += [objects.nodes[n].bare_concrete_function.concrete_function_name for n in numbers]
    reached: set[str] = set()
    while pending:
        name = pending.pop()
        if name in reached or name not in functions:
            continue
        reached.add(name)
        for node in functions[name]:
            for value in node.attr.values():
                pending += [value.func.name, *(function.name for function in value.list.func)]
    return reached
