# SPDX-License-Identifier: Apache-2.0
"""The ranking finds the layer that causes an error, and float fallback removes it, with and without QAT."""

from functools import cache

import numpy as np
import pytest

from learn2compress.compression.family.model import build_family, cut_students, normalize
from learn2compress.compression.quantization.conversion import (
    convert_post_training,
    convert_quantization_aware,
    convert_reference,
)
from learn2compress.compression.quantization.layer_error import (
    layers_of_steps,
    name_of_step,
    rank_steps,
    ranking_images,
    whole_error,
)
from learn2compress.compression.quantization.mixed_precision import choose_float_layers
from learn2compress.compression.quantization.qat import calibrate, quantization_aware, without_rounding
from learn2compress.modalities import modality_named
from learn2compress.schemas.errors import TrainingError
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.transformations.splicing import pair_files, splice

STUDENT = "large"


def spoil_range(family, by=3000.0):
    """Makes one channel of trunk2_1_dw enormous, and its readers take it as much smaller: floats do not mind."""
    norm, reader = family.get_layer("trunk2_1_dw_bn"), family.get_layer("trunk2_1_pw")
    gamma, beta, mean, variance = norm.get_weights()
    channel = int(np.argmax(np.abs(gamma)))
    gamma[channel] *= by
    beta[channel] *= by
    norm.set_weights([gamma, beta, mean, variance])
    (kernel,) = reader.get_weights()
    kernel[:, :, channel] /= by
    reader.set_weights([kernel])


@pytest.fixture(scope="module")
def images(stripes):
    return list(stripes.draw(32, 0)[0])


@pytest.fixture(scope="module")
def look(stripes, trained_weights, images):
    """Spoils the family, makes the int8 file and ranks its layers."""

    @cache
    def look(cause=None, trained_for_it=False):
        family = build_family(stripes.SPEC, seed=1)
        family.set_weights(trained_weights)
        if cause:
            {"range": spoil_range, "weights": stripes.spoil_weights}[cause](family)
        student = cut_students(family, stripes.SPEC.students)[STUDENT]
        reference = student
        if trained_for_it:
            aware = quantization_aware(family, keep_zeros=False)
            calibrate(aware, family, [normalize(np.stack(images))])
            data = convert_quantization_aware(cut_students(aware, stripes.SPEC.students)[STUDENT], "uint8")
            reference = without_rounding(aware, student)
        else:
            data = convert_post_training(student, "int8", images)
        pair = pair_files(convert_reference(reference), data)
        layers = layers_of_steps(pair, student)
        names = [name_of_step(layers, step) for step in range(len(layers))]
        return pair, rank_steps(pair, names, normalize(np.stack(images)).numpy()), layers

    return look


def accuracy_on(images, labels):
    def accuracy(data):
        opened = open_model(data, scaling=Scaling.named("symmetric"))
        return float(np.mean(opened.predict(images).argmax(1) == labels))

    return accuracy


def test_rank_steps_finds_small_errors_only_in_an_unchanged_student(look, images):
    pair, ranking, _ = look()

    assert [error.op for _, error in ranking].count("SOFTMAX") == 0
    assert len(ranking) == len(pair.steps) - 1
    ratios = [error.logits_sqnr_db for _, error in ranking]
    assert ratios == sorted(ratios)
    assert ratios[0] > 30
    assert {error.changed for _, error in ranking} == {0.0}
    # The error of rounding to a whole number is even over [-1/2, 1/2].
    assert np.median([error.rmse_over_scale for _, error in ranking]) == pytest.approx(12**-0.5, abs=0.06)
    sqnr, changed = whole_error(pair, normalize(np.stack(images)).numpy())
    assert 25 < sqnr < ratios[0] + 3
    assert changed == 0


def test_layers_of_steps_names_each_layer_once(look, stripes):
    _, _, layers = look()

    family = build_family(stripes.SPEC)
    student = cut_students(family, stripes.SPEC.students)[STUDENT]
    assert sorted(name for names in layers for name in names) == sorted(layer.name for layer in student.layers[1:])
    assert layers[0][-1] == "stem"
    assert set(layers[0]) == {"stem", "stem_bn", "stem_relu"}
    # The softmax is added by the converter.
    assert layers[-1] == []
    assert name_of_step(layers, len(layers) - 1) == f"operator {len(layers) - 1}"


@pytest.mark.parametrize("trained_for_it", [False, True])
@pytest.mark.parametrize(
    ("cause", "worst", "kept"),
    [
        ("range", "trunk2_1_dw", {"trunk2_1_dw", "trunk2_1_pw"}),
        ("weights", "trunk2_2_pw", {"trunk2_2_pw"}),
    ],
)
def test_layer_with_a_large_error_is_ranked_first_and_kept_in_float(look, stripes, cause, worst, kept, trained_for_it):
    pair, ranking, layers = look(cause, trained_for_it)

    assert all(step.rounded for step in pair.steps)
    first, second = ranking[0][1], ranking[1][1]
    assert (first.layer, first.cause) == (worst, cause)
    assert first.logits_sqnr_db < second.logits_sqnr_db
    # Its error is not attributed to the layers behind it.
    behind = [error.logits_sqnr_db for _, error in ranking if error.layer not in kept]
    assert first.logits_sqnr_db < min(behind) - 20

    images, labels = stripes.draw(60, 9)
    accuracy = accuracy_on(images, labels)
    before = accuracy(splice(pair, ()))
    found = choose_float_layers(pair, ranking, accuracy, at_least=0.97, before=before, most=3)
    assert before < 0.9
    assert found.accuracy >= 0.97
    assert {name_of_step(layers, step) for step in found.steps} == kept


def test_choose_float_layers_returns_the_most_accurate_file_when_none_is_accurate_enough(look):
    pair, ranking, _ = look("weights")
    accuracies = iter([0.5, 0.7, 0.6])

    found = choose_float_layers(pair, ranking, lambda _: next(accuracies), at_least=1.0, before=0.4, most=3)

    assert found.accuracy == 0.7


def test_choose_float_layers_returns_none_when_float_does_not_help(look):
    pair, ranking, _ = look()

    assert choose_float_layers(pair, ranking, lambda _: 0.4, at_least=1.0, before=0.4, most=2) is None


def test_choose_float_layers_keeps_at_most_the_given_number(look):
    pair, ranking, _ = look("range")

    # The range of the output of trunk2_1_dw concerns two layers.
    assert choose_float_layers(pair, ranking[:1], lambda _: 1.0, at_least=1.0, before=0.4, most=1) is None


def test_ranking_images_are_fewer_for_a_larger_model(look, images):
    pair, _, _ = look()

    assert ranking_images(pair, 1000, images, modality_named().student_input).shape == (32, 8, 8, 1)
    assert len(ranking_images(pair, 10**12, images, modality_named().student_input)) == 8
    assert ranking_images(pair, 1000, images, modality_named().student_input).max() <= 1


def test_without_rounding_has_what_was_learned(trained_family, stripes):
    aware = quantization_aware(trained_family, keep_zeros=False)
    for variable in aware.trainable_variables:
        variable.assign(variable * 1.5)
    student = cut_students(trained_family, stripes.SPEC.students)["small"]

    copy = without_rounding(aware, student)

    assert len(copy.trainable_weights) > 5
    for before, after in zip(student.trainable_weights, copy.trainable_weights, strict=True):
        np.testing.assert_allclose(after.numpy(), 1.5 * before.numpy())


def test_without_rounding_refuses_a_student_of_another_family(trained_family, stripes):
    aware = quantization_aware(trained_family, keep_zeros=False)
    other = cut_students(build_family(stripes.LEAST), stripes.LEAST.students)["large"]

    with pytest.raises(TrainingError, match="weight trunk2_1/kernel:0 must be one of the quantization-aware students'"):
        without_rounding(aware, other)
