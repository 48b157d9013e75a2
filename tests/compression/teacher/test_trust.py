# SPDX-License-Identifier: Apache-2.0
"""Teachers that would do more than compute."""

import json
import zipfile
from pathlib import Path

import pytest
import tensorflow as tf
import tf_keras

from learn2compress.compression.teacher.formats import describe_file
from learn2compress.compression.teacher.models import open_model
from learn2compress.compression.teacher.trust import check_graph, check_layers
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


def test_check_graph_accepts_what_computes(tmp_path: Path) -> None:
    tf.saved_model.save(Exported(tf.identity), str(tmp_path / "module"))
    layers = [tf_keras.layers.Conv2D(2, 1), tf_keras.layers.RandomFlip(), tf_keras.layers.BatchNormalization()]
    tf_keras.Sequential([tf_keras.Input((2, 2, 1)), *layers, tf_keras.layers.Dropout(0.5)]).save(tmp_path / "keras")

    check_graph(tmp_path / "module", trusted=False)
    check_graph(tmp_path / "keras", trusted=False)
