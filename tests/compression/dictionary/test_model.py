# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tf_keras as keras
from support.texts.students import LENGTH, small_family, texts_of

from learn2compress.compression.dictionary.model import LOGITS, TABLE, assemble, start_at


def test_family_computes_the_sum_of_each_students_words_times_its_kernel():
    spec, family, dictionary = small_family("keys")
    ids = dictionary.lookup.encode(texts_of(dictionary, 10), LENGTH)
    table = family.get_layer(TABLE).table.numpy()
    for index, output in enumerate(family(ids, training=False)):
        own = np.where((ids > 0) & (ids <= spec.students[index].rows), 1.0, 0.0)
        kernel, bias = family.get_layer(LOGITS).of_student(index)
        expected = (own[..., None] * table[ids]).sum(axis=1) @ kernel + bias
        assert np.allclose(output, expected, atol=1e-4)


def test_assemble_computes_students_with_different_columns():
    family = assemble([("small", 4, 2), ("large", 8, 3)], 5, 3, 0.0, 0)
    ids = np.array([[1, 4, 8, 0, 0]], np.int32)
    table = family.get_layer(TABLE).table.numpy()
    kernel, _ = family.get_layer(LOGITS).of_student(0)
    assert kernel.shape == (2, 3)
    assert np.allclose(family(ids)[0], table[[1, 4], :2].sum(axis=0) @ kernel, atol=1e-6)


def test_assemble_trains_as_many_variables_for_one_student_as_for_three():
    shapes = [("small", 4, 2), ("medium", 6, 2), ("large", 8, 2)]
    joint, alone = (assemble(some, 5, 3, 0.5, 0) for some in (shapes, shapes[-1:]))
    assert len(joint.trainable_variables) == len(alone.trainable_variables)


def test_family_is_the_same_after_saving(tmp_path):
    _, family, dictionary = small_family("words")
    family.save(tmp_path / "family.keras")
    again = keras.models.load_model(tmp_path / "family.keras", compile=False)
    ids = dictionary.lookup.encode(texts_of(dictionary, 10), LENGTH)
    for one, other in zip(family(ids, training=False), again(ids, training=False), strict=True):
        assert np.array_equal(one, other)


def test_start_at_makes_each_word_add_its_logits_in_all_students():
    family = assemble([("small", 2, 2), ("large", 4, 2)], 5, 3, 0.0, 0)
    logits = np.array([[2.0, -1, -1], [0, 1, -1], [-3, 1, 2], [0, 0, 0]])
    start_at(family, logits)
    small, large = family(np.array([[1, 3, 4, 0, 0]], np.int32))
    assert np.allclose(small, logits[:1], atol=1e-6)
    assert np.allclose(large, logits[[0, 2, 3]].sum(axis=0), atol=1e-6)
