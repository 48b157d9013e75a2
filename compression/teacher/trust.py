# SPDX-License-Identifier: Apache-2.0
"""Refuses a teacher's file that could do more than compute while it is loaded or run.

A Keras 2 file names the layers and functions to call: any function of TensorFlow through `TFOpLambda`, in a .keras file
any object of any Python module. A SavedModel's graph may hold operations that read or write files, use the network or
call Python. What is accepted is a list, so an unknown way in is refused. Keras 3 has such a check itself (safe mode).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
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
    *("CSVDataset", "CacheDataset", "RegisterDataset", "RecordInput", "VocabRemapping", "FixedUnigram", "codeProto"),
    *("ImmutableConst", "DumpTensor", "DTensorRestore", "ImportEvent", "TRT", "CustomCall", "Nccl", "Heartbeat"),
    *("Distributed", "HostCompute", "Skipgram", "StatisticsSaver"),
)
_UNREGISTERED = re.compile(r"Op type not registered '([^']+)'")
# Operations of tensorflow-text have names that hold one of these.
_TEXT_OPERATIONS = (
    *("TFText", "UTF8", "Wordpiece", "Sentencepiece", "WhitespaceTokenize", "UnicodeScript", "RegexSplit", "Ngrams"),
    *("BertNormaliz", "Split", "SentenceFragments", "MstMaxSpan", "Byte", "Trim", "Trie", "ConstrainedSequence"),
)
# TensorFlow's own saver reads and writes variables by these.
_READS_VARIABLES = {"Restore", "RestoreSlice", "RestoreV2", "ShardedFilename", "ShardedFilespec"}
_SAVER = _READS_VARIABLES | {"DistributedSave", "MergeV2Checkpoints", "Save", "SaveSlices", "SaveV2"}
_INITIALIZERS = ("saved_model_main_op", "legacy_init_op", "saved_model_init_op")  # names of collections and signatures


def check_layers(description: FileDescription) -> None:
    """Refuse a Keras 2 file whose configuration names anything but Keras' layers and functions that compute.

    Raises:
        TeacherError: It names another one.
    """
    if not description.format.startswith("keras2"):
        return
    # Models are loaded with compile=False, by which the loader drops the optimizer of a model that was compiled.
    loaded = {key: value for key, value in (description.model_config or {}).items() if key != "compile_config"}
    for found in _strangers(loaded):
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
        path: SavedModel folder; any other path is accepted.
        trusted: Whether the user trusts it.

    Raises:
        TeacherError: It holds one and is not trusted, or cannot be read.
    """
    if trusted or not path.is_dir():
        return
    outside = sorted({node.op for graph in _read(path).meta_graphs for node in _acting(graph)})
    if outside:
        raise TeacherError(
            f"teacher {path} must only compute; its graph has {', '.join(outside[:3])}, which may use files, the "
            "network or Python. If you trust whom it is from, set teacher.trust: true."
        )


def is_outside(operation: str) -> bool:
    """Return whether an operation of TensorFlow may use files, the network or Python."""
    return operation in _SAVER or any(part in operation for part in _OUTSIDE)


def _read(path: Path) -> Any:
    """Read a SavedModel's graph from the file that TensorFlow would load."""
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    if (path / "saved_model.cpb").exists():
        raise TeacherError(
            f"teacher {path} must be a SavedModel in one file; got saved_model.cpb, whose parts are not looked at. "
            "Export it without the experimental option for large models, or set teacher.trust: true."
        )
    binary = path / "saved_model.pb"
    try:
        if binary.exists():
            return saved_model_pb2.SavedModel.FromString(binary.read_bytes())
        return text_format.Parse((path / "saved_model.pbtxt").read_bytes(), saved_model_pb2.SavedModel())
    except (DecodeError, text_format.ParseError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TeacherError(f"teacher {path} must be a whole SavedModel; got: {reason}. Export it again.") from error


def _acting(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and its functions that are not computation.

    The saver's own are only where loading or calling the model runs them.
    """
    functions = {one.signature.name: one.node_def for one in graph.graph_def.library.function}
    nodes = list(graph.graph_def.node)
    for node in chain(nodes, *functions.values()):
        if node.op not in _SAVER and is_outside(node.op):
            yield node
    called = [tensor.name for one in graph.signature_def.values() for tensor in one.outputs.values()]
    for name in _INITIALIZERS:
        called += graph.collection_def[name].node_list.value if name in graph.collection_def else []
    run = _reached_nodes(nodes, called)
    run += _reached_functions(functions, [*_entries(graph.object_graph_def), *_names_in(run)])
    yield from (node for node in run if node.op in _SAVER)
    restored = _reached_nodes(nodes, [graph.saver_def.restore_op_name])
    restored += _reached_functions(functions, _names_in(restored))
    yield from (node for node in restored if node.op in _SAVER - _READS_VARIABLES)


def _entries(objects: Any) -> Iterator[str]:
    """Yield the functions that loading the objects calls, or that a user of them can call."""
    yield from objects.concrete_functions
    for one in objects.nodes:
        for saveable in one.saveable_objects.values():
            for number in (saveable.save_function, saveable.restore_function):
                if 0 <= number < len(objects.nodes):
                    yield objects.nodes[number].bare_concrete_function.concrete_function_name


def _names_in(nodes: Iterable[Any]) -> Iterator[str]:
    """Yield the names of functions that nodes call: as their operation or in their attributes."""
    for node in nodes:
        yield node.op
        for value in node.attr.values():
            yield value.func.name
            yield from (function.name for function in value.list.func)


def _reached_functions(functions: Mapping[str, Any], names: Iterable[str]) -> list[Any]:
    """Return the nodes of the functions of these names, and of those that they call."""
    pending, reached = list(names), dict[str, Any]()
    while pending:
        name = pending.pop()
        if name in functions and name not in reached:
            reached[name] = functions[name]
            pending += _names_in(functions[name])
    return [node for body in reached.values() for node in body]


def _reached_nodes(nodes: Iterable[Any], names: Iterable[str]) -> list[Any]:
    """Return the nodes of a graph that are computed for these tensors."""
    by_name = {node.name: node for node in nodes}
    pending, reached = list(names), dict[str, Any]()
    while pending:
        name = pending.pop().removeprefix("^").partition(":")[0]
        if name in by_name and name not in reached:
            reached[name] = by_name[name]
            pending += by_name[name].input
    return list(reached.values())
