# SPDX-License-Identifier: Apache-2.0
"""Whatever way a file is to be read, `evaluate` gives what plain inference gives, asks, or says what it assumes."""

from pathlib import Path

import numpy as np
import pytest
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_classifiers import (
    Tiny,
    described,
    kernel_and_bias,
    make_images,
    make_tiny,
    plain_classes,
    source_of,
)

from learn2compress.compression.teacher.classifier import load_teacher
from learn2compress.compression.teacher.fit import check_fit
from learn2compress.evaluation.examination.tflite_file import Choices
from learn2compress.evaluation.files import evaluate_files
from learn2compress.schemas.config import EvaluateConfig
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.scaling import Scaling

NAMES = ("apple", "berry", "cherry", "daisy")
ONCE = EvaluateConfig(latency_runs=1, threads=[1])
# Scale and zero point of inputs as converters choose them for images of all brightnesses.
RANGES = {
    ("none", "uint8"): (1.0, 0), ("none", "int8"): (1.0, -128), ("none", "int16"): (255 / 32767, 0),
    ("unit", "uint8"): (1 / 255, 0), ("unit", "int8"): (1 / 255, -128), ("unit", "int16"): (1 / 32767, 0),
    ("symmetric", "uint8"): (2 / 255, 128), ("symmetric", "int8"): (1 / 127.5, -1),
    ("symmetric", "int16"): (1 / 32767, 0), ("imagenet", "uint8"): (4.758 / 255, 114),
    ("imagenet", "int8"): (4.758 / 255, -14), ("imagenet", "int16"): (2.64 / 32767, 0),
    ("caffe", "uint8"): (275 / 255, 115), ("caffe", "int8"): (275 / 255, -13), ("caffe", "int16"): (151.1 / 32767, 0),
}  # fmt: skip


@st.composite
def classifiers(draw: st.DrawFn) -> tuple[Tiny, tuple[int, ...]]:
    """A classifier, and for each of its outputs the class that it stands for."""
    order = tuple(draw(st.permutations(range(4))))
    channels = draw(st.sampled_from([1, 3]))
    axes = draw(st.sampled_from(["nhwc", "nchw", "flat", *(["nhw"] if channels == 1 else [])]))
    scalings = ["none", "unit", "symmetric", *(["imagenet", "caffe"] if channels == 3 else [])]
    name = draw(st.sampled_from(scalings))
    dtype = draw(st.sampled_from(["float32", "float32", "uint8", "int8", "int16"]))
    return Tiny(
        scaling=Scaling.named(name),
        levels=tuple(Tiny.levels[label] for label in order),
        end=draw(st.sampled_from(["SOFTMAX", None])),
        axes=axes,
        channels=channels,
        dtype=dtype,
        quantization=RANGES.get((name, dtype)),
        batch=draw(st.sampled_from([1, 1, 8])),
    ), order


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(made=classifiers(), says=st.sets(st.sampled_from(["labels", "scaling", "option"])), seed=st.integers(0, 99))
def test_evaluate_equals_plain_inference_or_refuses(
    made: tuple[Tiny, tuple[int, ...]], says: set[str], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tiny, order = made
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(48) % 4)
    images = make_images(labels, channels=tiny.channels, seed=seed)
    truth = np.where(rng.random(len(labels)) < 0.1, rng.integers(0, 4, len(labels)), labels)
    data = make_tiny(tiny)
    expected = float((np.asarray(order)[plain_classes(data, tiny, images)] == truth).mean())

    if tiny.axes == "flat":
        says = says - {"labels"}  # metadata describe images
    # Metadata have labels here, and no way to say BGR.
    in_metadata = tiny.scaling if "scaling" in says and tiny.scaling.channel_order == "rgb" else None
    if "labels" in says:
        data = described(data, [NAMES[label] for label in order], in_metadata)
    path = tmp_path_factory.getbasetemp() / "tiny.tflite"
    path.write_bytes(data)
    choices = Choices(scaling=tiny.scaling if "option" in says else None)
    (found,) = evaluate_files([path], source_of(images, truth, NAMES), ONCE, choices).candidates

    if found.failed is None:
        assert found.figures["test"].top1 == pytest.approx(expected) or found.warnings
    else:
        assert "--" in found.failed
    told = "option" in says or ("labels" in says and in_metadata is not None)
    ordered = "labels" in says or order == (0, 1, 2, 3)
    if told and ordered:
        assert found.failed is None
        assert found.figures["test"].top1 == pytest.approx(expected)
        assert not found.warnings


@pytest.mark.parametrize("scaling", ["none", "unit", "symmetric", "caffe"])
@pytest.mark.parametrize("activation", ["softmax", None])
def test_check_fit_equals_plain_inference_or_refuses(scaling: str, activation: str | None, tmp_path: Path) -> None:
    expected = Scaling.named(scaling)
    tiny = Tiny(expected, end=None)
    labels = np.arange(80) % 4
    images = make_images(labels)
    model = tf_keras.Sequential(
        [tf_keras.Input((6, 6, 3)), tf_keras.layers.Flatten(), tf_keras.layers.Dense(4, activation=activation)]
    )
    model.layers[-1].set_weights([part.T for part in kernel_and_bias(tiny)])
    model.save(tmp_path / "t.keras")
    for name in ("none", "unit", "symmetric", "caffe"):
        teacher = load_teacher(tmp_path / "t.keras", scaling=name)
        fit = check_fit(teacher, images, labels, classes=4, allow_near_chance=True)
        if name == scaling:
            assert (fit.accuracy, fit.hints) == (1.0, ())
        else:
            assert f"teacher.scaling: {scaling}" in fit.hints[-1]
            if fit.near_chance:
                with pytest.raises(TeacherError, match=f"teacher.scaling: {scaling}"):
                    check_fit(teacher, images, labels, classes=4)
