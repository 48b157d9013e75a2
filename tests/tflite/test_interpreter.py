# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from support.tflite_files import write_metadata

from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite import interpreter
from learn2compress.tflite.interpreter import activation_bytes, arena_bytes, open_model
from learn2compress.tflite.model_file import read_model
from learn2compress.tflite.packing import pack
from learn2compress.tflite.parsed_file import parse_file
from learn2compress.tflite.schema import unpack


def _changed(data, change):
    model = unpack(data)
    change(model)
    return pack(model)


def test_predict_of_a_float_file_is_that_of_keras(tflite_models, keras_student, pixels):
    scores = open_model(tflite_models["float32"]).predict(pixels)
    assert (scores.shape, scores.dtype) == ((40, 4), np.float32)
    np.testing.assert_allclose(scores, keras_student.predict(pixels.astype(np.float32), verbose=0), atol=1e-5)


@pytest.mark.parametrize(("variant", "offset"), [("int8", -128), ("uint8", 0)])
def test_predict_feeds_integers_their_pixels_and_dequantizes(tflite_models, pixels, variant, offset):
    interpreter = Interpreter(model_content=tflite_models[variant])
    interpreter.allocate_tensors()
    image, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(image["index"], (pixels[:1].astype(int) + offset).astype(variant))
    interpreter.invoke()
    integers = interpreter.get_tensor(output["index"]).astype(np.float32)
    expected = (integers - output["quantization"][1]) * np.float32(output["quantization"][0])
    assert np.array_equal(open_model(tflite_models[variant]).predict(pixels[:1]), expected)


@pytest.mark.parametrize("variant", ["int8", "uint8"])
def test_predict_of_integers_is_close_to_that_of_floats(tflite_models, pixels, variant):
    exact = open_model(tflite_models["float32"]).predict(pixels)
    assert np.abs(open_model(tflite_models[variant]).predict(pixels) - exact).max() < 0.05


@pytest.mark.parametrize("variant", ["float32", "float16", "dynamic", "int8", "uint8"])
def test_predict_gives_the_same_for_many_images_as_for_one_at_a_time(tflite_models, pixels, variant):
    model = open_model(tflite_models[variant])
    alone = np.concatenate([model.predict(pixels[i : i + 1]) for i in range(len(pixels))])
    together = model.predict(pixels)
    np.testing.assert_allclose(together, alone, atol=0 if "int8" in variant else 1e-5)
    assert len(np.unique(alone.round(3), axis=0)) > 10


def test_predict_takes_images_one_by_one_where_the_batch_is_fixed(brightest_pixel_tflite):
    images = np.random.default_rng(1).integers(0, 256, (35, 2, 2, 1), np.uint8)
    scores = open_model(brightest_pixel_tflite).predict(images)
    np.testing.assert_allclose(scores, images.reshape(35, 4) / 255, atol=1e-6)


def test_predict_of_no_images_is_empty(tflite_models):
    assert open_model(tflite_models["int8"]).predict(np.empty((0, 12, 12, 3), np.uint8)).shape == (0, 4)


def test_predict_uses_more_threads_with_the_same_result(tflite_models, pixels):
    one, two = (open_model(tflite_models["int8"], threads=n).predict(pixels) for n in (1, 2))
    assert np.array_equal(one, two)


def test_open_model_scales_pixels_a_channel_at_a_time(brightest_pixel_tflite, tflite_models, pixels):
    image = np.array([0, 51, 102, 255], np.uint8).reshape(1, 2, 2, 1)
    scores = open_model(brightest_pixel_tflite, scaling=Scaling(mean=[51.0], std=[0.5])).predict(image)
    np.testing.assert_allclose(scores, [[-0.4, 0.0, 0.4, 1.6]], atol=1e-6)
    plain = open_model(tflite_models["float32"])
    scaling = Scaling(mean=[0.0, 0.0, 10.0], std=[1.0, 1.0, 2.0])
    scaled = open_model(tflite_models["float32"], scaling=scaling)
    assert not np.allclose(scaled.predict(pixels), plain.predict(pixels))


def test_open_model_scales_before_it_quantizes(tflite_models, pixels):
    # The same pixels, announced as halves: the input's scale is half of what it was, so the same integers enter.
    def halve(model):
        tensor = model.subgraphs[0].tensors[int(model.subgraphs[0].inputs[0])]
        tensor.quantization.scale = tensor.quantization.scale / 2

    halved = open_model(_changed(tflite_models["uint8"], halve), scaling=Scaling(mean=[0.0], std=[2.0]))
    plain = open_model(tflite_models["uint8"])
    assert np.array_equal(halved._to_input(pixels), plain._to_input(pixels))
    assert np.array_equal(plain._to_input(pixels), pixels)


def test_open_model_scales_as_the_metadata_say(brightest_pixel_tflite):
    described = write_metadata(
        brightest_pixel_tflite, name="n", description="d", labels=list("abcd"), mean=[51.0], std=[0.5]
    )
    image = np.array([0, 51, 102, 255], np.uint8).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(open_model(described).predict(image), [[-0.4, 0.0, 0.4, 1.6]], atol=1e-6)
    plain = open_model(described, scaling=Scaling(mean=[0.0], std=[1.0]))
    np.testing.assert_allclose(plain.predict(image), [[0.0, 0.2, 0.4, 1.0]], atol=1e-6)


def test_latency_measures_as_often_as_asked(tflite_models):
    times = open_model(tflite_models["int8"]).latency(repeats=7, warmup=2)
    assert times.shape == (7,)
    assert (times > 0).all()


def test_activation_bytes_is_the_largest_sum_alive_at_once(tflite_models):
    # The residual sum: trunk, branch and their sum, 12·12·8 bytes each, all alive; 1,152 is a multiple of 64.
    assert activation_bytes(read_model(tflite_models["int8"])) == 3 * 1_152
    assert activation_bytes(read_model(tflite_models["float32"])) == 4 * 3 * 1_152


@pytest.mark.parametrize("variant", ["float32", "int8", "uint8"])
def test_arena_bytes_holds_the_activations_and_little_more(tflite_models, variant):
    data = tflite_models[variant]
    model = read_model(data)
    size = 4 if variant == "float32" else 1
    # The sum is computed in place of the branch, and the runtime keeps the input to the end.
    assert 2 * 1_152 * size <= arena_bytes(parse_file(data)) <= activation_bytes(model) + 432 * size + 64
    assert open_model(data).arena_bytes() == arena_bytes(parse_file(data))


def test_predict_runs_large_images_in_smaller_batches(tflite_models, pixels, monkeypatch):
    expected = open_model(tflite_models["int8"]).predict(pixels)
    sizes = []

    class Recorded(interpreter.Runner):
        def __call__(self, inputs):
            sizes.append(self.size)
            return super().__call__(inputs)

    monkeypatch.setattr(interpreter, "Runner", Recorded)
    monkeypatch.setattr(interpreter, "_BATCH_BYTES", 5 * 3 * 1_152)  # the activations of five images

    np.testing.assert_array_equal(open_model(tflite_models["int8"]).predict(pixels), expected)
    assert sizes.count(5) >= len(pixels) // 5
    assert set(sizes) == {1, 5}


def test_open_model_takes_a_path_and_names_it(tmp_path, tflite_models):
    path = tmp_path / "student.tflite"
    path.write_bytes(tflite_models["int8"])
    assert open_model(path).model.file == str(path)
    path.write_bytes(tflite_models["int8"][:999])
    with pytest.raises(ModelFileError, match=r"student.tflite, and it is cut short"):
        open_model(path)


def test_predict_refuses_images_of_another_shape_or_type(tflite_models, pixels):
    model = open_model(tflite_models["int8"], file="student.tflite")
    with pytest.raises(ModelFileError, match=r"uint8 \[n, 12, 12, 3\]; got uint8 \[40, 12, 12, 1\] for student.tfl"):
        model.predict(pixels[..., :1])
    with pytest.raises(ModelFileError, match=r"got float32 \[40, 12, 12, 3\]"):
        model.predict(pixels.astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: _input_only(m, shape=[1, 432]), r"must take \[1, height, width, channels\].*got int8 \[1, 432\]"),
        (lambda m: _input_only(m, shapeSignature=[-1, -1, -1, 3]), r"got int8 \[-1, -1, -1, 3\]"),
        (lambda m: _input_only(m, type=schema.TensorType.BOOL), r"got bool \[-1, 12, 12, 3\]"),
        (lambda m: setattr(m.subgraphs[0], "outputs", [20, 20]), "must have one output, or the choice of one; got 2"),
        (lambda m: setattr(m.subgraphs[0], "outputs", m.subgraphs[0].inputs), r"must give \[1, classes\]; got int8"),
    ],
)
def test_open_model_refuses_what_is_no_image_classifier(tflite_models, change, message):
    with pytest.raises(ModelFileError, match=message):
        open_model(_changed(tflite_models["int8"], change))


def _input_only(model, **fields):
    tensor = model.subgraphs[0].tensors[int(model.subgraphs[0].inputs[0])]
    if "shape" in fields:
        tensor.shapeSignature = None
    for name, value in fields.items():
        setattr(tensor, name, value)


def test_open_model_says_what_the_runtime_cannot_run(tflite_models):
    def rename(model):
        softmax = next(code for code in model.operatorCodes if code.deprecatedBuiltinCode == 25)
        softmax.builtinCode = softmax.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        softmax.customCode = "Sparkle"

    data = _changed(tflite_models["int8"], rename)
    assert read_model(data).op_counts["Sparkle"] == 1
    with pytest.raises(ModelFileError, match=r"built-in operators; got odd.tflite, .*Sparkle"):
        open_model(data, file="odd.tflite")


@pytest.mark.parametrize(("mean", "std"), [([0.0, 0.0], [1.0]), ([0.0], [1.0, 1.0])])
def test_open_model_refuses_a_scaling_that_does_not_fit(tflite_models, mean, std):
    with pytest.raises(ModelFileError, match=r"one mean and std, or one a channel \(3\); got mean"):
        open_model(tflite_models["int8"], scaling=Scaling(mean=mean, std=std))
