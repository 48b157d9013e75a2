# SPDX-License-Identifier: Apache-2.0
"""Teachers that would do more than compute."""

import json
import re
import zipfile
from pathlib import Path

import pytest
import tensorflow as tf
import tf_keras
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2

from learn2compress.compression.teacher.formats import describe_file
from learn2compress.compression.teacher.models import open_model
from learn2compress.compression.teacher.trust import check_graph, check_layers, is_outside
from learn2compress.modalities import modality_named
from learn2compress.schemas.errors import TeacherError


def functional(function) -> tf_keras.Model:
    image = tf_keras.Input((2, 2, 1))
    return tf_keras.Model(image, tf_keras.layers.Dense(2)(tf_keras.layers.Flatten()(function(image))))


def test_open_model_refuses_a_function_of_tensorflow_that_deletes_a_folder(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    functional(lambda image: tf.math.abs(image)).save(tmp_path / "t.h5")
    import h5py

    with h5py.File(tmp_path / "t.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        [layer] = [one for one in config["config"]["layers"] if one["class_name"] == "TFOpLambda"]
        layer["config"]["function"] = "io.gfile.rmtree"
        file.attrs["model_config"] = json.dumps(config)

    with pytest.raises(
        TeacherError, match=r"Keras' own layers, which only compute; got 'TFOpLambda of io\.gfile\.rmtree'"
    ):
        open_model(describe_file(tmp_path / "t.h5"), None, None, modality_named("image"))
    assert precious.exists()


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_check_layers_accepts_what_computes(tmp_path: Path, suffix: str) -> None:
    def scaled(image):
        return tf.nn.relu(tf.concat([image / 255.0, tf.cast(image, tf.float32)], axis=-1)[:, 1:])

    model = functional(scaled)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.save(tmp_path / f"t.{suffix}")

    check_layers(describe_file(tmp_path / f"t.{suffix}"))


@pytest.mark.parametrize("module", ["os", "subprocess", "keras.utils", "tf_keras.saving", "builtins"])
def test_check_layers_refuses_an_object_of_another_module(tmp_path: Path, module: str) -> None:
    functional(tf_keras.layers.ReLU()).save(tmp_path / "t.keras")
    with zipfile.ZipFile(tmp_path / "t.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][1] |= {"module": module, "class_name": "system"}
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "t.keras", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)

    with pytest.raises(TeacherError, match=rf"only compute; got '{module}\.system'"):
        check_layers(describe_file(tmp_path / "t.keras"))


class Exported(tf.Module):
    """A SavedModel that does something else before it computes."""

    def __init__(self, act) -> None:
        super().__init__()
        self.weight = tf.Variable([[1.0, 2.0]])
        self.act = act

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32)])
    def __call__(self, image):
        self.act(image)
        return image @ self.weight


def write(image) -> None:
    tf.io.write_file("/tmp/never-written", tf.strings.as_string(image[0, 0]))


def save(image) -> None:
    tf.raw_ops.SaveV2(prefix="/tmp/never-saved", tensor_names=["a"], shape_and_slices=[""], tensors=[image])


@pytest.mark.parametrize(
    ("act", "operation"),
    [
        (write, "WriteFile"),
        (save, "SaveV2"),
        (lambda _: tf.io.read_file("/etc/passwd"), "ReadFile"),
        (lambda image: tf.py_function(lambda x: x, [image], tf.float32), "EagerPyFunc"),
    ],
)
def test_check_graph_refuses_files_and_python_unless_trusted(tmp_path: Path, act, operation: str) -> None:
    module = Exported(act)
    tf.saved_model.save(module, str(tmp_path / "t"), signatures=module.__call__)

    with pytest.raises(
        TeacherError, match=rf"must only compute; its graph has .*{operation}.*set teacher\.trust: true"
    ):
        check_graph(tmp_path / "t", trusted=False)
    check_graph(tmp_path / "t", trusted=True)


def read_graph(folder: Path) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())


def save_plain(folder: Path) -> saved_model_pb2.SavedModel:
    module = Exported(tf.identity)
    tf.saved_model.save(module, str(folder), signatures=module.__call__)
    return read_graph(folder)


def test_check_graph_reads_a_model_in_text_as_well(tmp_path: Path) -> None:
    module = Exported(write)
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__)
    text = text_format.MessageToString(read_graph(tmp_path))
    (tmp_path / "saved_model.pb").unlink()
    (tmp_path / "saved_model.pbtxt").write_text(text)

    with pytest.raises(TeacherError, match=r"its graph has .*WriteFile"):
        check_graph(tmp_path, trusted=False)
    (tmp_path / "saved_model.pbtxt").write_text("no { graph")
    with pytest.raises(TeacherError, match="must be a whole SavedModel; got: "):
        check_graph(tmp_path, trusted=False)


def test_check_graph_refuses_a_model_in_parts(tmp_path: Path) -> None:
    save_plain(tmp_path)
    (tmp_path / "saved_model.cpb").write_bytes(b"")

    with pytest.raises(TeacherError, match=r"must be a SavedModel in one file; got saved_model\.cpb"):
        check_graph(tmp_path, trusted=False)


def call_by_name(graph, saver: str) -> None:
    """Let the first function call the saver by its name, as an operation."""
    function = next(one for one in graph.graph_def.library.function if one.signature.name != saver)
    graph.object_graph_def.concrete_functions[function.signature.name].SetInParent()
    function.node_def.add(name="odd", op=saver)


def call_from_signature(graph, saver: str) -> None:
    """Let what the signature returns depend on the saver."""
    graph.graph_def.node.add(name="odd", op="PartitionedCall").attr["f"].func.name = saver
    [output] = graph.signature_def["serving_default"].outputs.values()
    [node] = [one for one in graph.graph_def.node if one.name == output.name.partition(":")[0]]
    node.input.append("^odd")


def save_when_restored(graph, saver: str) -> None:
    """Let the saver write where the loader restores."""
    graph.graph_def.node.add(name="odd", op=saver)
    graph.saver_def.restore_op_name = "odd"


@pytest.mark.parametrize("change", [call_by_name, call_from_signature, save_when_restored])
def test_check_graph_refuses_a_saver_that_the_model_runs(tmp_path: Path, change) -> None:
    model = save_plain(tmp_path)
    [graph] = model.meta_graphs
    [saver] = [f.signature.name for f in graph.graph_def.library.function if any(n.op == "SaveV2" for n in f.node_def)]
    check_graph(tmp_path, trusted=False)
    change(graph, saver)
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())

    with pytest.raises(TeacherError, match=r"its graph has .*SaveV2"):
        check_graph(tmp_path, trusted=False)


def test_is_outside_names_each_operation_with_an_argument_that_is_a_place() -> None:
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    known = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    place = re.compile(r"(^|_)(files?|filenames?|path|pattern|address|region_name|descriptor_source|directory)(_|$)")
    # The first have a regular expression, the last one a mark of tensors that are names of files.
    harmless = {"RegexFullMatch", "RegexReplace", "StaticRegexFullMatch", "StaticRegexReplace", "TensorSliceDataset"}
    named = {
        one.name for one in known.op
        if any(place.search(argument.name) for argument in (*one.input_arg, *one.attr))
    } | {"CalibrationStatisticsSaver"}  # fmt: skip  # since TensorFlow 2.17

    assert len(named) > 20
    assert {name for name in named - harmless if not is_outside(name)} == set()


def test_check_graph_accepts_what_computes(tmp_path: Path) -> None:
    tf.saved_model.save(Exported(tf.identity), str(tmp_path / "module"))
    layers = [tf_keras.layers.Conv2D(2, 1), tf_keras.layers.RandomFlip(), tf_keras.layers.BatchNormalization()]
    tf_keras.Sequential([tf_keras.Input((2, 2, 1)), *layers, tf_keras.layers.Dropout(0.5)]).save(tmp_path / "keras")

    check_graph(tmp_path / "module", trusted=False)
    check_graph(tmp_path / "keras", trusted=False)
