# SPDX-License-Identifier: Apache-2.0
"""A teacher that fits is measured; one that does not is refused with the setting that mends it, found by trying."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from learn2compress.compression.teacher.classifier import LoadedTeacher, load_teacher
from learn2compress.compression.teacher.fit import TeacherFit, best_class_order, check_fit
from learn2compress.schemas.errors import DataError, TeacherError
from learn2compress.schemas.scaling import Scaling

CLASSES = 4
LEVELS = (np.arange(CLASSES) + 0.5) / CLASSES


def make_teacher(path: Path, levels: np.ndarray = LEVELS, channels: int = 3, sharpness: float = 60.0) -> Path:
    """Make a teacher that tells classes by brightness b in 0..1: -(b - level)^2, less what is the same for all.

    It is linear in b with a bias, so that it is right under the scaling 'unit' and wrong under any other.
    """
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [tf_keras.Input((8, 8, channels)), layers.GlobalAveragePooling2D(), layers.Dense(len(levels))]
    )
    kernel = np.tile(2 * levels, (channels, 1)) / channels
    model.layers[-1].set_weights([sharpness * kernel, -sharpness * levels**2])
    model.save(path)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("teacher") / "t.h5")


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Images whose brightness tells their class, with a little noise; sorted by class, as folders often are."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), 50)
    brightness = LEVELS[labels] + rng.uniform(-0.08, 0.08, len(labels))
    noise = rng.normal(0, 5, (len(labels), 8, 8, 3))
    return np.clip(255 * brightness[:, None, None, None] + noise, 0, 255).astype(np.uint8), labels


def test_check_fit_measures_a_teacher_that_fits(path: Path, data: tuple) -> None:
    images, labels = data
    fit = check_fit(load_teacher(path, scaling="unit"), images, labels, classes=CLASSES)
    assert fit.accuracy == 1.0
    assert fit.chance == 0.25
    assert fit.images == 200
    assert 0 < fit.loss < 0.5
    assert fit.hints == ()
    assert not fit.near_chance


def test_check_fit_takes_batches_as_they_come(path: Path, data: tuple) -> None:
    images, labels = data
    labels = labels.copy()
    labels[:20] = 3  # of class 0: wrong now

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(images), 30):
            yield images[start : start + 30], labels[start : start + 30]

    teacher = load_teacher(path, scaling="unit")
    fit = check_fit(teacher, batches(), classes=CLASSES)
    assert fit.accuracy == pytest.approx(0.9)
    assert fit.chance == pytest.approx(0.35)
    whole = check_fit(teacher, images, labels, classes=CLASSES)
    assert (fit.accuracy, fit.chance, fit.images) == (whole.accuracy, whole.chance, whole.images)
    assert fit.loss == pytest.approx(whole.loss)
    logits = teacher.logits(images)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert fit.loss == pytest.approx(-np.log(probabilities[np.arange(200), labels]).mean(), rel=1e-4)


def test_check_fit_names_the_scaling_that_scores(path: Path, data: tuple) -> None:
    images, labels = data
    with pytest.raises(
        TeacherError,
        match=r"must score above chance on the data; got 0.250 of 200 examples, where naming the most frequent class "
        r"alone scores 0.250. With scaling 'unit' it scores 1.00: set teacher.scaling: unit. .*allow_near_chance: true",
    ):
        check_fit(load_teacher(path), images, labels, classes=CLASSES)


def test_check_fit_finds_another_order_of_classes(path: Path, data: tuple) -> None:
    images, labels = data
    renamed = np.array([2, 3, 1, 0])[labels]  # the teacher's class 0 is the data's class 2, and so on
    teacher = load_teacher(path, scaling="unit")
    with pytest.raises(
        TeacherError, match=r"another order: with class_order \[3, 2, 0, 1\] it scores 1.00: set teacher.class_order"
    ):
        check_fit(teacher, images, renamed, classes=CLASSES)
    mended = load_teacher(path, scaling="unit", class_order=[3, 2, 0, 1])
    assert check_fit(mended, images, renamed, classes=CLASSES).accuracy == 1.0


def test_check_fit_states_an_order_in_terms_of_the_models_own_outputs(path: Path, data: tuple) -> None:
    images, labels = data
    teacher = load_teacher(path, scaling="unit", class_order=[1, 2, 3, 0])
    with pytest.raises(TeacherError, match=r"set teacher.class_order: \[0, 1, 2, 3\]"):
        check_fit(teacher, images, labels, classes=CLASSES)


def test_check_fit_finds_scaling_and_order_together(path: Path, data: tuple) -> None:
    images, labels = data
    renamed = np.array([1, 2, 3, 0])[labels]
    with pytest.raises(TeacherError, match=r"set teacher.scaling: unit and teacher.class_order: \[3, 0, 1, 2\]"):
        check_fit(load_teacher(path), images, renamed, classes=CLASSES)


def test_check_fit_says_so_when_nothing_helps(path: Path, data: tuple) -> None:
    images, labels = data
    shuffled = np.random.default_rng(1).permutation(labels)
    with pytest.raises(TeacherError, match="No other scaling, and no other order of its classes, does better"):
        check_fit(load_teacher(path, scaling="unit"), images, shuffled, classes=CLASSES)


def test_check_fit_continues_near_chance_where_that_is_allowed(path: Path, data: tuple) -> None:
    images, labels = data
    fit = check_fit(load_teacher(path), images, labels, classes=CLASSES, allow_near_chance=True)
    assert fit.near_chance
    assert fit.accuracy == 0.25
    assert "must score above chance" in fit.hints[0]
    assert "set teacher.scaling: unit" in fit.hints[1]


def test_check_fit_hints_at_a_much_better_scaling_above_chance(path: Path, data: tuple) -> None:
    images, labels = data
    # Darker to the teacher than they are: about half of the images are still told right.
    scaling = Scaling(mean=(0,), std=(330,))
    fit = check_fit(load_teacher(path, scaling=scaling), images, labels, classes=CLASSES)
    assert not fit.near_chance
    assert 0.4 < fit.accuracy < 0.6
    assert fit.hints == ("With scaling 'unit' it scores 1.00: set teacher.scaling: unit",)


def test_check_fit_tries_no_colour_scaling_on_grey_images(tmp_path: Path, data: tuple) -> None:
    images, labels = data
    teacher = load_teacher(make_teacher(tmp_path / "grey.h5", channels=1))
    with pytest.raises(TeacherError, match=r"With scaling 'unit' it scores 1.00"):
        check_fit(teacher, images[..., :1], labels, classes=CLASSES)


def test_check_fit_tries_no_scaling_on_a_model_of_whole_pixels(data: tuple, tmp_path: Path) -> None:
    module = tf.Module()
    module.answer = tf.function(
        lambda x: tf.random.stateless_normal([tf.shape(x)[0], CLASSES], [1, 2]),
        input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.uint8)],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path / "t"), signatures=module.answer)
    images, labels = data
    with pytest.raises(TeacherError, match="No other scaling"):
        check_fit(load_teacher(tmp_path / "t"), images, labels, classes=CLASSES)


def test_check_fit_passes_over_a_scaling_under_which_numbers_overflow(tmp_path: Path, data: tuple) -> None:
    module = tf.Module()

    def answer(x: tf.Tensor) -> tf.Tensor:
        b = tf.reduce_mean(x, [1, 2, 3])[:, None]
        # Right under 'unit'; infinite on pixels as they are.
        return -((b - tf.constant(LEVELS, tf.float32)) ** 2) * tf.exp(b * b)

    module.answer = tf.function(answer, input_signature=[tf.TensorSpec([None, 8, 8, 3])], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "t"), signatures=module.answer)
    images, labels = data
    teacher = load_teacher(tmp_path / "t", scaling=Scaling(mean=(255,), std=(60,)))
    with pytest.raises(TeacherError, match=r"With scaling 'unit' it scores 1.00"):
        check_fit(teacher, images, labels, classes=CLASSES)


def test_check_fit_refuses_a_teacher_of_fewer_classes(path: Path, data: tuple) -> None:
    images, labels = data
    with pytest.raises(
        TeacherError, match=r"must have one output for each of the data's 6 classes; got 4. Use a teacher that was"
    ):
        check_fit(load_teacher(path, scaling="unit"), images, labels, classes=6, allow_near_chance=True)


def test_check_fit_finds_the_datas_classes_among_more_outputs(tmp_path: Path, data: tuple) -> None:
    images, labels = data
    # Two outputs that never win, as a background class in front.
    levels = np.concatenate([[30.0], LEVELS[::-1], [40.0]])
    teacher = load_teacher(make_teacher(tmp_path / "t.h5", levels), scaling="unit")
    with pytest.raises(
        TeacherError,
        match=r"the data's 4 classes; got 6. With class_order \[4, 3, 2, 1\] it scores 1.00: set teacher.class_order",
    ):
        check_fit(teacher, images, labels, classes=CLASSES)


def test_check_fit_asks_for_an_order_among_more_outputs_that_it_cannot_find(tmp_path: Path, data: tuple) -> None:
    images, labels = data
    teacher = load_teacher(make_teacher(tmp_path / "t.h5", np.linspace(0, 1, 9)))
    with pytest.raises(
        TeacherError, match=r"got 9. Name the output of each class with teacher.class_order.*teacher.skip_class"
    ):
        check_fit(teacher, images, labels, classes=CLASSES)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6, 8, 8, 1), r"must have the 3 channel\(s\).*Set data.channels: 3"),
        ((6, 16, 16, 3), "must be 8x8.*Set data.height: 8 and data.width: 8"),
    ],
)
def test_check_fit_refuses_images_of_another_shape(path: Path, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        check_fit(
            load_teacher(path), np.zeros(shape, np.uint8), np.zeros(6, int), classes=CLASSES, allow_near_chance=True
        )


@pytest.mark.parametrize(
    ("count", "labels", "message"),
    [
        (0, np.zeros(0, int), "must be at least one; got none"),
        (2, np.array([0, 4]), r"labels must be in 0..3; got 0..4"),
        (2, np.array([0, -1]), r"labels must be in 0..3; got -1..0"),
        (2, np.array([0, 1, 2]), r"2 whole numbers, one for each image; got int64 of shape \[3\]"),
        (2, np.array([0.0, 1.0]), "whole numbers, one for each image; got float64"),
    ],
)
def test_check_fit_refuses_labels_that_make_no_sense(path: Path, count: int, labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_fit(load_teacher(path), np.zeros((count, 8, 8, 3), np.uint8), labels, classes=CLASSES)


def test_check_fit_refuses_no_batches(path: Path) -> None:
    with pytest.raises(DataError, match="must be at least one; got none"):
        check_fit(load_teacher(path), iter([]), classes=CLASSES)


def test_check_fit_keeps_only_some_of_the_images(path: Path, data: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = data
    asked: list[int] = []
    teacher = load_teacher(path)
    original = LoadedTeacher.logits

    def counting(self: LoadedTeacher, batch: np.ndarray, *rest: bool, **options: bool) -> np.ndarray:
        asked.append(len(batch))
        return original(self, batch, *rest, **options)

    monkeypatch.setattr(LoadedTeacher, "logits", counting)
    batches = ((images, labels) for _ in range(10))
    with pytest.raises(TeacherError, match=r"got 0.250 of 2000 examples"):
        check_fit(teacher, batches, classes=CLASSES)
    assert asked[:10] == [200] * 10
    assert set(asked[10:]) == {512}


def test_near_chance_allows_for_few_images() -> None:
    assert TeacherFit(0.4, 0.25, 1.0, images=20).near_chance
    assert not TeacherFit(0.4, 0.25, 1.0, images=2000).near_chance
    assert TeacherFit(0.3, 0.25, 1.0, images=2000).near_chance
    # Naming the most frequent class is guessing too.
    assert TeacherFit(0.9, 0.9, 1.0, images=2000).near_chance
    assert not TeacherFit(1.0, 0.9, 1.0, images=2000).near_chance


def test_best_class_order_does_not_mistake_chance_for_an_order() -> None:
    rng = np.random.default_rng(0)
    answers, labels = rng.integers(0, 100, 300), rng.integers(0, 100, 300)
    score, order = best_class_order(answers, labels, 100, 100)
    assert score < 0.05
    assert sorted(order) == list(range(100))


def test_best_class_order_is_worked_out_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    answers = np.array([2, 2, 2, 2, 0, 0, 0, 0])
    assert best_class_order(answers, labels, 3, 2) == (1.0, (2, 0))
