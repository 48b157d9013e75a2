# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
from support.texts.students import LENGTH, small_family, student_file, texts_of

from learn2compress.compression.family.model import cut_students
from learn2compress.modalities.text.classifier import open_text_model
from learn2compress.tflite.model_file import prove_full_int8

CASES = [(carrier, student) for carrier in ("words", "keys") for student in ("small", "large")]


@pytest.mark.parametrize(("carrier", "student"), CASES)
def test_cut_student_computes_its_output_of_the_family(carrier, student):
    spec, family, dictionary = small_family(carrier)
    ids = dictionary.lookup.encode(texts_of(dictionary, 20), LENGTH)
    index = spec.names.index(student)
    expected = family(ids, training=False)[index].numpy()
    own = np.where(ids > spec.students[index].rows, 0, ids)
    assert np.allclose(cut_students(family, spec.names)[student](own).numpy(), expected, atol=1e-4)
    assert np.abs(expected - expected[:1]).max() > 0.1


@pytest.mark.parametrize("variant", ["int8", "uint8"])
@pytest.mark.parametrize(("carrier", "student"), CASES)
def test_integer_file_has_no_float_tensor_and_the_predicted_size(carrier, student, variant):
    data = student_file(carrier, student, variant)
    classifier = open_text_model(data)
    assert prove_full_int8(classifier.model).holds
    operators = {"GATHER": 1, "MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1}
    assert classifier.model.op_counts == {**operators, **({"QUANTIZE": 1} if variant == "uint8" else {})}
    predicted = small_family(carrier)[0].costs()[student].int8_bytes
    assert 0.97 * predicted <= len(data) <= (1.03 if variant == "uint8" else 1) * predicted


@pytest.mark.parametrize("variant", ["float32", "int8", "uint8"])
@pytest.mark.parametrize(("carrier", "student"), CASES)
def test_file_gives_the_scores_of_the_family_for_the_same_texts(carrier, student, variant):
    spec, family, dictionary = small_family(carrier)
    texts = texts_of(dictionary, 40, seed=1)
    ids = dictionary.lookup.encode(texts, LENGTH)
    expected = tf.nn.softmax(family(ids, training=False)[spec.names.index(student)]).numpy()
    scores = open_text_model(student_file(carrier, student, variant)).predict(texts)
    assert np.abs(scores - expected).max() < (1e-4 if variant == "float32" else 0.08)
    if variant == "float32":
        assert (scores.argmax(axis=1) == expected.argmax(axis=1)).all()
