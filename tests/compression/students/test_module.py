# SPDX-License-Identifier: Apache-2.0
"""Models that a user's module may build, and each error that is refused."""

import numpy as np
import pytest
import tf_keras as keras

from learn2compress.compression.students.module import build_students
from learn2compress.schemas.errors import StudentModuleError
from learn2compress.schemas.module_source import ModuleSource

SHAPE, CLASSES = (8, 8, 1), 3
START = "import tf_keras as keras\nlayers = keras.layers\n"


def module(text: str, function: str = "build") -> ModuleSource:
    return ModuleSource("mine.py", function, START + text)


def returning(body: str, result: str) -> ModuleSource:
    lines = "".join(f"    {line}\n" for line in ["image = keras.Input(input_shape)", *body.splitlines()])
    return module(f"def build(input_shape, classes):\n{lines}    return {result}\n")


def logits_of(source: ModuleSource, seed: int = 0) -> dict[str, np.ndarray]:
    family, names = build_students(source, SHAPE, CLASSES, seed)
    images = np.random.default_rng(1).uniform(-1, 1, (2, *SHAPE)).astype(np.float32)
    outputs = family(images)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return dict(zip(names, [output.numpy() for output in outputs], strict=True))


FLAT = "x = layers.Flatten()(image)"
TWO = FLAT + "\na = layers.Dense(classes, name='a')(layers.Dense(9)(x))\nb = layers.Dense(classes, name='b')(x)"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (returning(FLAT, "keras.Model(image, layers.Dense(classes)(x))"), ["student"]),
        (returning(FLAT, "keras.Model(image, layers.Dense(classes)(x), name='mine')"), ["mine"]),
        (returning("", "keras.Sequential([layers.Flatten(), layers.Dense(classes)])"), ["student"]),
        (returning(TWO, "keras.Model(image, [a, b])"), ["b", "a"]),
        (returning(TWO, "keras.Model(image, {'wide': a, 'tiny': b})"), ["tiny", "wide"]),
        (returning(TWO, "{'wide': keras.Model(image, a), 'tiny': keras.Model(image, b)}"), ["tiny", "wide"]),
    ],
)
def test_students_are_named_and_ordered_by_their_parameters(source, names):
    assert list(logits_of(source)) == names


def test_equal_seeds_give_equal_weights_and_names():
    source = returning(TWO, "keras.Model(image, [a, b])")
    first, again, other = (build_students(source, SHAPE, CLASSES, seed)[0] for seed in (4, 4, 5))

    assert [v.name for v in first.variables] == [v.name for v in again.variables]
    for one, two in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_shared_layers_occur_once_and_outputs_are_unchanged():
    body = FLAT + "\ntrunk = layers.Dense(9, name='trunk')\na = layers.Dense(classes)(trunk(x))"
    body += "\nother = keras.Input(input_shape)\nb = layers.Dense(5, name='trunk2')(trunk(layers.Flatten()(other)))"
    source = returning(body, "{'a': keras.Model(image, a), 'b': keras.Model(other, layers.Dense(classes)(b))}")

    family, names = build_students(source, SHAPE, CLASSES)

    assert names == ("a", "b")
    assert sum(layer.name == "trunk" for layer in family.layers) == 1


def test_nested_models_are_flattened_with_weights_and_unique_names():
    text = """
def block(shape, filters):
    image = keras.Input(shape)
    x = layers.Conv2D(filters, 3, padding="same", name="conv")(image)
    return keras.Model(image, layers.BatchNormalization(name="bn")(x), name="block" + str(filters))

def build(input_shape, classes):
    global built
    image = keras.Input(input_shape)
    x = block(input_shape, 4)(image)
    x = keras.Sequential([block((8, 8, 4), 6), layers.ReLU()], name="outer")(x, training=False)
    built = keras.Model(image, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))
    return built
"""
    source = module(text)
    family, _ = build_students(source, SHAPE, CLASSES)
    from learn2compress.compression.students.module import _run

    original = vars(_run(source))["built"]
    images = np.random.default_rng(1).uniform(-1, 1, (2, *SHAPE)).astype(np.float32)

    assert not [layer for layer in family.layers if isinstance(layer, keras.Model)]
    assert {"conv", "bn", "block6_conv", "block6_bn"} <= {layer.name for layer in family.layers}
    np.testing.assert_allclose(family(images), original(images), rtol=1e-5)
    # The second was called in inference mode, so training changes only the statistics of the first.
    family(images, training=True)
    assert np.all(family.get_layer("block6_bn").moving_mean == 0)
    assert not np.all(family.get_layer("bn").moving_mean == 0)


def test_a_rescaling_with_an_offset_becomes_two_layers_that_compute_the_same():
    body = "x = layers.Flatten()(layers.Rescaling(0.5, 0.25)(image))"
    dense = "layers.Dense(classes, kernel_initializer='ones')(x)"
    logits = logits_of(returning(body, f"keras.Model(image, {dense})"))["student"]

    images = np.random.default_rng(1).uniform(-1, 1, (2, *SHAPE)).astype(np.float32)
    expected = (0.5 * images + 0.25).reshape(2, -1).sum(axis=1)
    np.testing.assert_allclose(logits, np.repeat(expected[:, None], CLASSES, axis=1), rtol=1e-4)


def test_custom_layers_are_accepted():
    text = """
class Half(layers.Layer):
    def call(self, x):
        return 0.5 * x

def build(input_shape, classes):
    image = keras.Input(input_shape)
    return keras.Model(image, layers.Dense(classes)(layers.Flatten()(Half()(image))))
"""
    family, _ = build_students(module(text), SHAPE, CLASSES)

    assert "Half" in {type(layer).__name__ for layer in family.layers}


OWN = """
class Own(layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
    def call(self, x):
        return self.factor * x

class Sub(keras.Model):
    def call(self, x):
        return x

"""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (returning("", "None"), r"what mine\.py:build returns must be a tf_keras model.*; got a NoneType"),
        (returning(TWO, "[keras.Model(image, a)]"), r"must be a tf_keras model, or a mapping .*; got a list"),
        (returning("", "{'a': 3}"), r"student 'a' of mine\.py:build must be a tf_keras model.*; got a int"),
        (returning("", "{}"), r"must build one to 6 students of different names; got none"),
        (
            returning(FLAT, "{'a-b': keras.Model(image, layers.Dense(classes)(x))}"),
            r"a student's name must be letters, digits and underscores.*; got 'a-b'",
        ),
        (
            returning(TWO, "{'a': keras.Model(image, [a, b])}"),
            r"student 'a' must have one output, the logits; got 2\.",
        ),
        (
            returning("", "keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(classes)])"),
            r"must take images of 8x8x1; its input is 4x4x1\. Use keras\.Input\(input_shape\)",
        ),
        (
            returning("", "keras.Sequential([keras.Input((64,)), layers.Dense(classes)])"),
            r"must take images of 8x8x1; its input is 64\.",
        ),
        (
            returning(FLAT, "keras.Model(image, layers.Dense(7)(x))"),
            r"must give 3 logits an image, one a class; its output is 7\. End with .*Dense\(classes\)",
        ),
        (
            returning("", "keras.Model(image, layers.Conv2D(classes, 8)(image))"),
            r"must give 3 logits an image, one a class; its output is 1x1x3\.",
        ),
        (
            returning(FLAT, "keras.Model(image, layers.Dense(classes, activation='softmax')(x))"),
            r"student 'student' must give logits; its last operation is a softmax, .*Leave the last activation out",
        ),
        (
            returning(FLAT, "keras.Model(image, layers.Activation('sigmoid')(layers.Dense(classes)(x)))"),
            r"must give logits; its last operation is a sigmoid",
        ),
        (
            returning("", "keras.Sequential([layers.Reshape((8, 8)), layers.LSTM(4), layers.Dense(classes)])"),
            r"must consist of operations that TensorFlow Lite supports; some are hidden in a loop",
        ),
        (
            returning(
                "x = layers.Flatten()(layers.Rescaling(1 / 255)(image))", "keras.Model(image, layers.Dense(3)(x))"
            ),
            r"layer 'rescaling' must not scale pixels of 0\.\.255: .*got a scale of 0\.003922",
        ),
        (
            returning(
                "scale = layers.Rescaling(1 / 255)\n"
                "x = layers.Flatten()(layers.Add()([scale(layers.ReLU()(image)), scale(image)]))",
                "keras.Model(image, layers.Dense(3)(x))",
            ),
            r"layer 'rescaling' must not scale pixels of 0\.\.255: ",
        ),
        (
            returning(
                FLAT, "keras.Model(image, layers.Dense(3, bias_initializer=keras.initializers.Constant(1e39))(x))"
            ),
            r"student 'student' must give finite logits",
        ),
        (
            module(OWN + "def build(input_shape, classes):\n    return Sub()\n"),
            r"must be a functional model; got the subclassed model Sub, which can be neither copied nor saved",
        ),
        (
            module(
                OWN + "def build(input_shape, classes):\n    image = keras.Input(input_shape)\n"
                "    return keras.Model(image, layers.Dense(classes)(layers.Flatten()(Sub(name='inner')(image))))\n"
            ),
            r"layer 'inner' must be a functional model or a plain layer; got the subclassed model Sub",
        ),
        (
            module(
                OWN + "def build(input_shape, classes):\n    image = keras.Input(input_shape)\n"
                "    return keras.Model(image, layers.Dense(classes)(layers.Flatten()(Own(2.0)(image))))\n"
            ),
            r"layer 'own' \(Own\) must be fully described by its get_config; .*Give the class a get_config",
        ),
        (
            module("def other(a, b):\n    pass\n"),
            r"mine\.py must have a function build\(input_shape, classes\); it has other\.",
        ),
        (
            module("def build(input_shape):\n    pass\n"),
            r"without an error; got TypeError: build\(\) takes 1 positional",
        ),
        (
            module("def build(a, b):\n    return 1 / 0\n"),
            r"got ZeroDivisionError: division by zero, line 4\. Correct it there",
        ),
        (module("import no_such_package\n"), r"got ModuleNotFoundError: No module named 'no_such_package', line 3\."),
        (module("def build(:\n"), r"mine\.py must be Python; line 3: "),
    ],
)
def test_build_students_refuses_invalid_models(source, message):
    with pytest.raises(StudentModuleError, match=message):
        build_students(source, SHAPE, CLASSES)


def test_build_students_refuses_keras_3_with_the_remedy():
    text = "import keras\ndef build(input_shape, classes):\n    image = keras.Input(input_shape)\n"
    text += "    return keras.Model(image, keras.layers.Dense(classes)(keras.layers.Flatten()(image)))\n"

    with pytest.raises(
        StudentModuleError, match=r"must be a model of Keras 2.*; got a Functional of Keras 3\. Write `import tf_k"
    ):
        build_students(ModuleSource("mine.py", "build", text), SHAPE, CLASSES)


def test_build_students_refuses_models_that_cannot_be_loaded():
    text = """
class Own(layers.Layer):
    def get_config(self):
        return {**super().get_config(), "table": object()}
    @classmethod
    def from_config(cls, config):
        return cls(name=config["name"])

def build(input_shape, classes):
    image = keras.Input(input_shape)
    return keras.Model(image, layers.Dense(classes)(layers.Flatten()(Own()(image))))
"""
    with pytest.raises(StudentModuleError, match="must be such that Keras can save and load them; got "):
        build_students(module(text), SHAPE, CLASSES)
