# SPDX-License-Identifier: Apache-2.0
"""Teachers that read texts, in each form in which they come."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from support.texts.teachers import WORDS, Classes, Transformer, build_ids, build_strings, save_module, texts
from tensorflow.core.protobuf import saved_model_pb2

from learn2compress.compression.teacher.classifier import load_teacher
from learn2compress.compression.teacher.fit import check_fit
from learn2compress.compression.teacher.trust import check_registered
from learn2compress.modalities import InputFiles, modality_named
from learn2compress.schemas.errors import TeacherError

TEXT = modality_named("text")
BATCH = texts("a GOOD film", "the film is bad!", "awful, awful", "great", "", "😀")
POSITIVE = [1, 0, 0, 1]


def load(path, **options):
    return load_teacher(path, modality=TEXT, **options)


def check(teacher):
    """The first four texts are classified, and the graph of training gives the same logits."""
    logits = teacher.logits(BATCH)
    assert logits.shape == (6, 2)
    assert logits.argmax(1)[:4].tolist() == POSITIVE
    in_graph = tf.function(teacher.tf_logits, autograph=False)(tf.constant(BATCH, tf.string))
    np.testing.assert_allclose(in_graph, logits, atol=1e-6)
    assert teacher.logits(BATCH[:0]).shape == (0, 2)


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras3", "keras2"])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_keras_model_of_strings_is_a_teacher(tmp_path, library, shape):
    model = build_strings(library, shape)
    model.save(tmp_path / "t.keras")

    teacher = load(tmp_path / "t.keras")

    assert teacher.output == "probabilities"
    assert teacher.parameters is not None
    check(teacher)


@pytest.mark.parametrize("units", [1, 2])
def test_exported_model_of_strings_is_a_teacher(tmp_path, units):
    build_strings(keras, (1,), units).export(str(tmp_path / "t"), verbose=False)

    teacher = load(tmp_path / "t")

    assert (teacher.outputs, teacher.classes) == (units, 2)
    check(teacher)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("words.txt", "\n".join(WORDS)),
        ("words.txt", "\n".join(f"{word or '<PAD>'} {number}" for number, word in enumerate(WORDS))),
        ("words.json", json.dumps(WORDS)),
        ("words.json", json.dumps({word: number for number, word in enumerate(WORDS)})),
    ],
)
def test_model_of_word_ids_is_a_teacher_with_its_vocabulary(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    build_ids(tf_keras, None, dtype="float32").save(tmp_path / "t.keras")

    check(load(tmp_path / "t.keras", files=InputFiles(vocabulary=tmp_path / name, tokens=8)))


def test_vocabulary_with_upper_case_keeps_the_case_of_texts(tmp_path):
    (tmp_path / "words.txt").write_text("\n".join([*WORDS[:-1], "Film"]))
    build_ids(tf_keras).save(tmp_path / "t.keras")

    teacher = load(tmp_path / "t.keras", files=InputFiles(vocabulary=tmp_path / "words.txt"))

    assert teacher.opened.input.prepare(tf.constant(["Film film GOOD"]), teacher.scaling, False).numpy().tolist() == [
        [7, 1, 1, 0, 0, 0]
    ]


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer.json of whole words with special tokens, as BERT has them."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS[2:]])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def transformer(folder, size=10):
    module = Transformer(size)
    table = np.zeros((size, 2), np.float32)
    table[4:6], table[6:8] = (-2, 2), (2, -2)  # good, great; bad, awful
    module.table.assign(table)
    return save_module(module, folder)


def test_transformer_is_a_teacher_with_its_tokenizer(tmp_path, tokenizer):
    teacher = load(transformer(tmp_path / "t"), files=InputFiles(tokenizer=tokenizer))
    long = texts(" ".join(["good"] * 100), "bad")

    check(teacher)
    np.testing.assert_allclose(teacher.logits(long)[1], teacher.logits(long[1:])[0])  # whatever the batch is padded to


def test_tokenizer_of_another_model_is_refused(tmp_path, tokenizer):
    with pytest.raises(TeacherError, match=r"teacher.tokenizer must be the one that teacher .* was trained with"):
        load(transformer(tmp_path / "t", 9), files=InputFiles(tokenizer=tokenizer))


def test_vocabulary_of_another_model_is_refused(tmp_path):
    (tmp_path / "words.txt").write_text("\n".join([*WORDS, "more", "words"]))
    build_ids(tf_keras).save(tmp_path / "t.keras")

    with pytest.raises(TeacherError, match=r"teacher.vocabulary must be the one .* was trained with; got .*words.txt"):
        load(tmp_path / "t.keras", files=InputFiles(vocabulary=tmp_path / "words.txt"))


@pytest.mark.parametrize(
    ("content", "match"),
    [("good\nbad", "must have a word for unknown words"), ("[UNK]", "must be a file of words: .* which has 1")],
)
def test_file_that_is_no_vocabulary_is_refused(tmp_path, content, match):
    (tmp_path / "words.txt").write_text(content)
    build_ids(tf_keras).save(tmp_path / "t.keras")

    with pytest.raises(TeacherError, match=match):
        load(tmp_path / "t.keras", files=InputFiles(vocabulary=tmp_path / "words.txt"))


def test_file_that_is_no_tokenizer_is_refused(tmp_path):
    pytest.importorskip("tokenizers")
    (tmp_path / "tokenizer.json").write_text("{}")

    with pytest.raises(TeacherError, match=r"teacher.tokenizer must be a tokenizer.json; got "):
        load(transformer(tmp_path / "t"), files=InputFiles(tokenizer=tmp_path / "tokenizer.json"))


def test_model_of_ids_needs_a_file(tmp_path):
    build_ids(tf_keras).save(tmp_path / "t.keras")

    with pytest.raises(TeacherError, match=r"teacher.vocabulary or teacher.tokenizer must be given for teacher"):
        load(tmp_path / "t.keras")
    with pytest.raises(TeacherError, match=r"teacher.tokenizer must be given for teacher .*attention_mask, input_ids"):
        load(transformer(tmp_path / "t"))


def test_files_of_ids_are_refused_for_strings_and_for_images(tmp_path):
    build_strings(tf_keras).save(tmp_path / "t.keras")
    image = tf_keras.Sequential([tf_keras.layers.Flatten(input_shape=(4, 4, 1)), tf_keras.layers.Dense(2)])
    image.save(tmp_path / "image.keras")
    files = InputFiles(vocabulary=tmp_path / "words.txt")

    with pytest.raises(TeacherError, match=r"teacher.vocabulary must be left out for teacher .*, which takes strings"):
        load(tmp_path / "t.keras", files=files)
    with pytest.raises(TeacherError, match=r"teacher.vocabulary must be left out for a teacher of images"):
        load_teacher(tmp_path / "image.keras", files=files)
    with pytest.raises(TeacherError, match=r"must take strings .*got flatten.*_input float32 \(None, 4, 4, 1\)"):
        load(tmp_path / "image.keras")


def test_class_order_is_read_from_an_output_of_strings(tmp_path):
    path = save_module(Classes(["pos", "neg"]), tmp_path / "t")

    teacher = load(path, class_names=["neg", "pos"])

    assert teacher.class_order == (1, 0)
    assert teacher.logits(BATCH).argmax(1)[:4].tolist() == [0, 0, 0, 1]
    assert load(path, class_names=["pos", "neg"]).class_order is None
    assert load(path, class_names=["yes", "no"]).class_order is None
    assert load(path, class_names=["neg", "pos"], class_order=[0, 1]).class_order == (0, 1)


def test_scaling_of_texts_is_refused(tmp_path):
    build_strings(tf_keras).save(tmp_path / "t.keras")

    with pytest.raises(TeacherError, match=r"teacher.scaling must be none for teacher .*, which takes texts"):
        load(tmp_path / "t.keras", scaling="unit")


def test_teacher_near_chance_is_refused_on_texts(tmp_path):
    build_strings(tf_keras).save(tmp_path / "t.keras")
    batch = texts(*[f"the film {i}" for i in range(60)])

    with pytest.raises(TeacherError, match=r"must score above chance on the data; got 0\.500"):
        check_fit(load(tmp_path / "t.keras"), batch, np.arange(60) % 2, classes=2)


def test_model_with_an_operation_of_tensorflow_text_is_named(tmp_path):
    folder = save_module(Classes(["pos", "neg"]), tmp_path / "t")
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "StaticRegexFullMatch":
                node.op = "CaseFoldUTF8"
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())

    with pytest.raises(TeacherError, match=r"got CaseFoldUTF8 of the package tensorflow-text, which is not loaded"):
        load(folder)


@pytest.mark.parametrize(
    ("operation", "match"),
    [
        ("CaseFoldUTF8", r"got CaseFoldUTF8 of the package tensorflow-text.*set teacher.tokenizer"),
        ("MyOp", r"got MyOp\. Export it without it\."),
    ],
)
def test_package_of_an_unknown_operation_is_named(tmp_path, operation, match):
    with pytest.raises(TeacherError, match=match):
        check_registered(tmp_path, f"Op type not registered '{operation}' in binary running on x.")
    check_registered(tmp_path, "another error")
