# SPDX-License-Identifier: Apache-2.0
"""Quantization methods of layers by preflight: each of the four methods, and agreement with the written files."""

import re
from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras

from learn2compress.compression.quantization.on_device import QuantizedFamily, write_models
from learn2compress.compression.quantization.preflight import (
    describe_preflight,
    output_only_layers,
    outputs_of,
    preflight,
    trained_for_8_bits,
)
from learn2compress.compression.quantization.qat import calibrate, quantization_aware
from learn2compress.compression.students import architecture
from learn2compress.compression.students.architecture import BuiltIn, OwnStudents, design
from learn2compress.compression.students.files import load_family, module_of, write_students
from learn2compress.compression.students.module import build_students
from learn2compress.schemas.config import StudentsConfig
from learn2compress.schemas.errors import StudentModuleError, TrainingError
from learn2compress.schemas.manifests import StudentSetManifest, Task, quantized_how, read_manifest
from learn2compress.schemas.module_source import ModuleSource
from learn2compress.schemas.progress import listening

TASK = Task(input_shape=(8, 8, 1), classes=["a", "b", "c"])
GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "own_students.md"
layers = keras.layers


@pytest.fixture(scope="module")
def example() -> ModuleSource:
    """The example of the guide."""
    return ModuleSource("my_students.py", "build", re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.S)[1])


@pytest.fixture(scope="module")
def own(example) -> OwnStudents:
    return OwnStudents(example, TASK)


def test_preflight_describes_user_defined_students_once(example):
    architecture._examine.cache_clear()
    said = []
    with listening(lambda progress: said.append(progress.detail)):
        for _ in range(2):
            design(StudentsConfig(), example, TASK, {"large": 2.0}).preflight()

    assert said[0] == "Testing each layer of my_students.py for 8-bit quantization …"
    assert said[1:5] == [
        "small: 11 layers, quantization: quantization-aware training, for some layers of the output only",
        "  output-only: rescaling (Rescaling), rescaling_offset (Rescaling) – tfmot does not support Rescaling",
        "  output-only: multiply (Multiply) – tfmot does not support Multiply",
        "large: 13 layers, quantization: after training",
    ]
    assert any(
        "layer_normalization (LayerNormalization) – tfmot does not support LayerNormalization" in line
        for line in said[5:]
    )
    assert any(line.endswith("– its student has layer_normalization") for line in said[5:])


def test_preflight_finds_methods_and_costs_of_the_example_of_the_guide(own):
    rows = {name: {row.layer: row for row in plan} for name, plan in own.preflight().items()}

    assert list(rows) == list(own.costs()) == ["small", "large"]
    assert {row.method for row in rows["small"].values()} == {"quantization-aware", "output-only"}
    assert {row.layer for row in rows["small"].values() if row.why} == {"rescaling", "rescaling_offset", "multiply"}
    assert {row.method for row in rows["large"].values()} == {"post-training"}
    assert rows["large"]["layer_normalization"].type == "LayerNormalization"
    assert not [row for row in rows["large"].values() if not row.why]
    small, large = own.costs().values()
    # 9·1·12+12, 9·12·24+24, 24·24+24, 24·3+3, batch normalization folded; and the constants of Rescaling
    assert small.parameters - (120 + 2616 + 600 + 75) in (1, 2, 3)
    assert small.macs == 64 * 9 * 12 + 16 * 9 * 12 * 24 + 24 * 24 + 24 * 3
    assert small.int8_bytes is None
    assert large.macs > small.macs


def test_preflight_agrees_with_the_written_files(own, example, tmp_path):
    family = own.build(0)
    manifest = write_students(
        tmp_path / "students",
        family,
        task=TASK,
        stage="distilled",
        teacher_sha256="7" * 64,
        spec=own.spec,
        costs=own.costs(),
        accuracy={"small": 0.5, "large": 0.5},
        curves=[],
        seed=0,
        source=example,
        preflight=own.preflight(),
    )
    assert read_manifest(tmp_path / "students", StudentSetManifest) == manifest
    assert module_of(tmp_path / "students", manifest).sha256 == example.sha256
    loaded = load_family(tmp_path / "students", manifest)
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8)
    learning = tuple(s.name for s in manifest.students if trained_for_8_bits(s.preflight))
    assert learning == ("small",)
    part = outputs_of(loaded, ("small", "large"), learning)
    aware = quantization_aware(part, True, output_only_layers(manifest.students))
    calibrate(aware, part, [images / 127.5 - 1])

    made = QuantizedFamily(loaded, aware, ("small", "large"), learning)
    written = write_models(tmp_path / "models", made, manifest, ["int8"], list(images), ["x"], [])

    assert [(model.name, model.full_int8) for model in written.models] == [("small-int8", True), ("large-int8", True)]
    for model, student in zip(written.models, manifest.students, strict=True):
        assert model.layers == student.preflight


@pytest.fixture(scope="module")
def odd():
    """Students with layers of the less common methods, and their preflight."""
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(4, 3, name="first")(image)
    ends = {
        "prelu": layers.PReLU(shared_axes=[1, 2], name="prelu")(layers.Conv2DTranspose(4, 3, name="up")(x)),
        "swish": layers.Conv2D(4, 3, activation="swish", name="swish")(x),
        "operation": x * 2.0,
        "elu": layers.ELU(name="elu")(layers.Conv2D(6, 3, name="before")(x)),
    }
    outputs = [layers.Dense(3, name=f"{name}_end")(layers.Flatten()(end)) for name, end in ends.items()]
    family = keras.Model(image, outputs)
    return family, preflight(family, tuple(ends))


def method_of(plans, student, layer):
    return next((row.method, row.why) for row in plans[student].layers if row.layer == layer)


def test_preflight_finds_each_method(odd):
    _, plans = odd

    assert {name: quantized_how(plan.layers).split(",")[0] for name, plan in plans.items()} == {
        "prelu": "quantization-aware training",
        "swish": "after training",
        "operation": "after training",
        "elu": "after training",
    }
    assert method_of(plans, "prelu", "prelu") == ("output-only", "tfmot does not support PReLU")
    assert method_of(plans, "prelu", "up") == ("quantization-aware", "")
    # tfmot supports it, but the file would not be in 8 bits.
    method, why = method_of(plans, "swish", "swish")
    assert method == "post-training"
    assert re.fullmatch(r"trained for 8 bits, its file has \d+ float tensors", why)
    method, why = method_of(plans, "operation", "tf.math.multiply")
    assert method == "post-training"
    assert why == "tfmot supports no bare TensorFlow operation, nor its output alone"
    method, why = method_of(plans, "elu", "elu")
    assert method == "float"
    assert re.fullmatch(r"quantized after training, its file has \d+ float tensors", why)
    assert method_of(plans, "elu", "before") == ("post-training", "its student has elu")
    assert "  float: elu (ELU) – quantized" in describe_preflight(plans)


def test_write_models_names_a_file_with_a_layer_in_float_mixed(odd, tmp_path):
    family, plans = odd
    names = tuple(plans)
    alone = outputs_of(family, names, ("elu",))
    manifest = write_students(
        tmp_path / "students",
        alone,
        task=TASK,
        stage="pruned",
        teacher_sha256="7" * 64,
        spec=None,
        costs={"elu": BUILT_COST},
        accuracy={"elu": 0.5},
        curves=[],
        seed=0,
        source=ModuleSource("odd.py", "build", "x = 1\n"),
        preflight={"elu": plans["elu"].layers},
    )
    images = list(np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8))

    written = write_models(
        tmp_path / "models",
        QuantizedFamily(alone, None, ("elu",), ()),
        manifest,
        ["float32", "int8"],
        images,
        ["x"],
        [],
    )

    assert [(m.name, m.variant, m.full_int8) for m in written.models] == [
        ("elu-float32", "float32", False),
        ("elu-int8-mixed", "int8-mixed", False),
    ]
    assert written.models[1].calibration is not None
    assert [row.layer for row in written.models[1].layers if row.method == "float"] == ["elu"]

    (tmp_path / "students/module/odd.py").write_text("x = 2\n")
    with pytest.raises(TrainingError, match=r"module/odd\.py must have the SHA-256"):
        load_family(tmp_path / "students", manifest)


BUILT_COST = design(StudentsConfig(), None, TASK, {}).costs()["small"]


def test_preflight_tries_a_layer_that_is_called_at_two_resolutions():
    image, relu = keras.Input((8, 8, 1)), layers.ReLU(name="relu")
    x = relu(layers.Conv2D(4, 3, padding="same")(image))
    x = relu(layers.Conv2D(4, 3, strides=2, padding="same")(x))
    family = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))

    assert method_of(preflight(family, ("only",)), "only", "relu") == ("quantization-aware", "")


def test_preflight_is_empty_for_the_built_in_family():
    built = design(StudentsConfig(), None, TASK, {})

    assert isinstance(built, BuiltIn)
    assert built.preflight() == {}
    assert built.source is None
    assert list(built.costs()) == list(built.spec.students) == ["small", "medium", "large"]
    assert [output.shape[-1] for output in built.build(0).outputs] == [3, 3, 3]


def test_design_refuses_a_weight_of_no_student(example):
    with pytest.raises(StudentModuleError, match=r"student_weights must name students of my_students\.py; got huge"):
        design(StudentsConfig(), example, TASK, {"huge": 2.0})


def test_preflight_refuses_a_student_that_tensorflow_lite_cannot_run():
    text = """
import tensorflow as tf
import tf_keras as keras

class Sorted(keras.layers.Layer):
    def call(self, x):
        return tf.linalg.svd(x, compute_uv=False)

def build(input_shape, classes):
    image = keras.Input(input_shape)
    x = Sorted()(keras.layers.Reshape((8, 8))(image))
    return keras.Model(image, keras.layers.Dense(classes)(x))
"""
    family, names = build_students(ModuleSource("mine.py", "build", text), (8, 8, 1), 3)

    with pytest.raises(StudentModuleError, match=r"student 'student' must be one that TensorFlow Lite can run; .*Svd"):
        preflight(family, names)
