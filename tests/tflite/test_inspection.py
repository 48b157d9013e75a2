# SPDX-License-Identifier: Apache-2.0
import gzip
import subprocess
import sys

import pytest
from support.tflite_files import compact, write_metadata

from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.inspection import inspect_file
from learn2compress.tflite.model_file import read_model
from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import unpack

LABELS = ["tench", "shark", "Käfer", "ostrich"]


@pytest.fixture
def saved(tmp_path, tflite_models):
    """Writes a variant as a run does, and returns its path."""

    def write(variant, change=compact):
        path = tmp_path / f"{variant}.tflite"
        data = change(tflite_models[variant])
        path.write_bytes(write_metadata(data, name="Four", description="Tells four.", labels=LABELS))
        return path

    return write


@pytest.mark.parametrize("variant", ["float32", "float16", "dynamic", "int8", "uint8"])
def test_layers_add_up_to_the_model(saved, variant):
    path = saved(variant)
    found, model = inspect_file(path), read_model(path.read_bytes())
    assert sum(layer.parameters for layer in found.layers) == found.parameters == model.parameters
    assert sum(layer.macs for layer in found.layers) == found.macs == 50_720
    assert sum(layer.weight_bytes for layer in found.layers) == found.weight_bytes
    assert found.weight_bytes == sum(tensor.bytes for tensor in model.tensors if tensor.constant)
    assert 0 < found.weight_bytes < found.file_bytes == path.stat().st_size
    assert sum(found.ops.values()) == len(found.layers)


def test_a_layer_is_told_by_place_operator_and_shape(saved):
    layers = [layer for layer in inspect_file(saved("int8")).layers if layer.macs]
    assert [(layer.op, layer.output_shape[1:], layer.weight_bytes) for layer in layers] == [
        ("CONV_2D", [12, 12, 8], 27 * 8 + 4 * 8),
        ("DEPTHWISE_CONV_2D", [12, 12, 8], 9 * 8 + 4 * 8),
        ("CONV_2D", [12, 12, 8], 64 + 4 * 8),
        ("FULLY_CONNECTED", [4], 32 + 4 * 4),
    ]
    assert {(layer.weights_dtype, layer.dtype) for layer in layers} == {("int8", "int8")}
    # Half of the pointwise kernel is zero. (A value too small for a step may join it.)
    assert layers[2].sparsity == pytest.approx(0.5, abs=0.05)


def test_names_are_shown_where_the_file_still_has_them(saved):
    named = inspect_file(saved("float32", change=lambda data: data)).layers
    assert all(layer.name for layer in named)
    stripped = inspect_file(saved("float32")).layers
    assert [layer.name for layer in stripped[:-1]] == [None] * (len(stripped) - 1)
    assert stripped[-1].name  # of the output, which stays


def test_ends_labels_and_digests_are_those_of_the_file(saved):
    path = saved("uint8")
    found = inspect_file(path)
    assert found.sha256 == file_sha256(path)
    assert found.gzip_bytes == len(gzip.compress(path.read_bytes(), 9))
    (image,), (scores,) = found.inputs, found.outputs
    assert (image.dtype, image.shape[1:], image.zero_point) == ("uint8", [12, 12, 3], [0])
    assert (scores.dtype, scores.scale, scores.zero_point) == ("uint8", [1 / 256], [0])
    assert found.metadata.labels == LABELS
    assert (found.metadata.mean, found.metadata.std) == ([0.0], [1.0])
    assert found.arena_bytes >= found.activation_bytes > 12 * 12 * 8


@pytest.mark.parametrize(
    ("variant", "whole", "words"),
    [
        ("float32", False, "none: float32"),
        ("float16", False, "none: weights in 16-bit floats"),
        ("dynamic", False, "none: float32"),  # the converter leaves kernels of under 1,024 values as they are
        ("int8", True, "full int8, "),
        ("uint8", True, "full int8"),
        ("int8-float-ends", False, "int8 inside, other types at its ends"),
    ],
)
def test_quantization_is_told_in_words(saved, variant, whole, words):
    found = inspect_file(saved(variant))
    assert found.quantization.startswith(words)
    if variant == "int8":
        # The last is dense: the converter of TensorFlow 2.16 gives it one scale, that of 2.21 one for each class.
        assert found.quantization.split()[2:] in (f"{n} of 4 kernels by channel".split() for n in (3, 4))
    assert found.full_int8.holds is whole
    assert bool(found.full_int8.reasons) is not whole


@pytest.mark.parametrize(
    ("units", "words"),
    [((40,), "dynamic range: int8 weights"), ((40, 2), "mixed: 1 of 2 kernels are quantized")],
)
def test_dynamic_range_is_told_by_its_float_activations(tmp_path, units, words):
    import tensorflow as tf
    import tf_keras as keras

    model = keras.Sequential([keras.Input((64,)), *(keras.layers.Dense(count, "relu") for count in units)])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    (tmp_path / "dense.tflite").write_bytes(converter.convert())
    assert inspect_file(tmp_path / "dense.tflite").quantization.startswith(words)


def test_read_metadata_returns_none_for_a_file_without_metadata(tmp_path, tflite_models):
    (tmp_path / "plain.tflite").write_bytes(tflite_models["int8"])
    assert inspect_file(tmp_path / "plain.tflite").metadata is None


def test_a_file_that_this_runtime_cannot_run_is_read_all_the_same(tmp_path, tflite_models):
    model = unpack(tflite_models["float32"])
    code = next(code for code in model.operatorCodes if code.builtinCode == 25)  # SOFTMAX
    code.builtinCode = code.deprecatedBuiltinCode = 32  # CUSTOM
    code.customCode = b"TheirSoftmax"
    (tmp_path / "custom.tflite").write_bytes(pack(model))
    found = inspect_file(tmp_path / "custom.tflite")
    assert found.ops["TheirSoftmax"] == 1
    assert found.arena_bytes is None
    assert "TheirSoftmax" in found.arena_unknown
    assert found.activation_bytes > 0


def test_inspect_refuses_what_is_no_tflite_file(tmp_path, saved):
    path = saved("int8")
    (tmp_path / "cut.tflite").write_bytes(path.read_bytes()[:1500])
    (tmp_path / "text.tflite").write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match=r"cut\.tflite, and it is cut short"):
        inspect_file(tmp_path / "cut.tflite")
    with pytest.raises(ModelFileError, match=r"text\.tflite, and its bytes 4 to 7"):
        inspect_file(tmp_path / "text.tflite")
    with pytest.raises(ModelFileError, match=r"must be readable; got .*none\.tflite"):
        inspect_file(tmp_path / "none.tflite")


def test_inspect_imports_neither_tensorflow_nor_tfx(saved):
    code = (
        "import sys\nfrom learn2compress.cli.main import main\n"
        f"try: main(['inspect', {str(saved('int8'))!r}])\nexcept SystemExit as stop: assert stop.code == 0\n"
        "print({name.split('.')[0] for name in sys.modules} & {'tensorflow', 'tfx', 'apache_beam', 'keras'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
