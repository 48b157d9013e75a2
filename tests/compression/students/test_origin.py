# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
from support.photographs import CLASSES, SIDE, draw_images, write_teacher

from learn2compress.compression.students import origin
from learn2compress.schemas.config import parse_config
from learn2compress.schemas.errors import TeacherError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("photographs")
    images, labels = draw_images(96, 3)
    np.savez(target / "data.npz", train_images=images, train_labels=labels, class_names=np.array(CLASSES))
    write_teacher(target / "teacher.keras", steps=24)
    return target


def configured(folder, teacher: str = "teacher.keras", **students):
    sizes = {"small": {"size_bytes": "13KB"}, "large": {"size_bytes": "25KB"}}
    return parse_config(
        {
            "teacher": {"path": str(folder / teacher)},
            "data": {"path": str(folder / "data.npz")},
            "students": {"sizes": sizes, "input": 32, **students},
        }
    )


def test_plan_describes_exits_and_students_without_a_run(folder):
    planned = origin.plan(configured(folder, **{"from": "teacher"}))
    text = planned.describe()
    assert planned.chosen.names == ("small", "large")
    assert text.count("  32x32") == sum(line.startswith("    32x32") for line in text.splitlines())
    assert "small: the teacher up to " in text
    assert all(
        cost.predicted_bytes < most for cost, most in zip(planned.costs().values(), (13_000, 25_000), strict=True)
    )


def test_sample_leaves_out_images_that_are_held_out(folder):
    sample = origin.read_sample(configured(folder, **{"from": "teacher"}), 1000)
    assert sample.training_images == 96
    assert 60 < len(sample.images) < 96  # without a tenth for test and a tenth for validation
    assert sample.task.input_shape == (SIDE, SIDE, 3)


def test_auto_takes_the_network_of_the_teacher_where_images_are_few(folder):
    config, why = origin.decide_origin(configured(folder, **{"from": "auto"}))
    assert config.students.origin == "teacher"
    assert config.distill.steps is not None
    assert why == "students.from: teacher, since there are 96 training images, at most 20,000"


def test_auto_compares_the_probe_with_the_teacher_where_images_are_many(folder, monkeypatch):
    monkeypatch.setattr(origin, "FEW_IMAGES", 10)
    monkeypatch.setattr(origin, "ENOUGH", 1.0)
    config, why = origin.decide_origin(configured(folder, **{"from": "auto"}))
    assert config.students.origin == "teacher"
    assert "a linear probe at " in why
    monkeypatch.setattr(origin, "ENOUGH", -1.0)
    config, _ = origin.decide_origin(configured(folder, **{"from": "auto"}))
    assert (config.students.origin, config.students.input, config.distill.steps) == ("built_in", None, None)


def test_auto_takes_the_built_in_family_for_a_saved_model(folder):
    weights = tf.Variable(tf.random.stateless_normal([3, len(CLASSES)], [1, 2]))
    module = tf.Module()
    module.weights = weights
    spec = tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32)
    module.serve = tf.function(lambda images: tf.reduce_mean(images, [1, 2]) @ weights, input_signature=[spec])
    tf.saved_model.save(module, str(folder / "saved"), signatures=module.serve)
    config, why = origin.decide_origin(configured(folder, "saved", **{"from": "auto"}))
    assert config.students.origin == "built_in"
    assert "is a SavedModel" in why
    with pytest.raises(TeacherError, match=r"is a SavedModel.* distill\.init|is a SavedModel.*built_in"):
        origin.plan(configured(folder, "saved", **{"from": "teacher"}))
