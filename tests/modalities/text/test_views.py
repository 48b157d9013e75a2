# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from learn2compress.modalities.text.views import TextViews
from learn2compress.modalities.text.words import split_words
from learn2compress.schemas.config import TeacherConfig
from learn2compress.schemas.manifests import TextViewRecipe

IDS = np.array([f"{i * 7919:016x}".encode() for i in range(200)], object)
TEXT = "  Good morning, it's 10 o'clock; the “film” begins: 😀 now!  "


def batch(*texts):
    made = np.empty(len(texts), object)
    made[:] = [text.encode() for text in texts]
    return made


def recipe(**changes):
    return TextViewRecipe(**{"count": 4, "dropped_words": 0.25, "window_words": 6, "seed": 3, **changes})


def test_recipe_takes_the_rate_of_the_configuration():
    views = TextViews(6)

    assert views.recipe(TeacherConfig(path="t"), 3, False) == recipe()
    given = TeacherConfig(path="t", view_dropped_words=0.5, views=2)
    assert views.recipe(given, 3, True) == recipe(count=2, dropped_words=0.5)


def test_draw_depends_on_id_view_and_seed_alone():
    views = TextViews(6)
    drawn = views.draw(IDS, recipe())

    assert drawn.shape == (200, 4, 3)
    assert drawn.dtype == np.int16
    assert not drawn[:, 0].any()
    assert (drawn[:, 1:, 1] == 2500).all()
    assert (views.draw(IDS[::-1], recipe())[::-1] == drawn).all()
    assert (views.draw(IDS, recipe(count=2)) == drawn[:, :2]).all()
    assert (views.draw(IDS, recipe(seed=4))[:, 1:] != drawn[:, 1:]).any(axis=-1).mean() > 0.99
    assert len({tuple(row) for row in drawn[:, 1:].reshape(-1, 3).tolist()}) > 590


def test_view_zero_is_the_text_itself():
    texts = batch(TEXT, "", "😀")

    assert (TextViews(6).apply_to_texts(texts, np.zeros((3, 3), np.int16)) == texts).all()


def test_view_without_dropped_words_is_a_window_with_its_separators():
    made = [TextViews(6).apply_to_texts(batch(TEXT), np.array([[1, 0, s]], np.int16))[0] for s in (0, 16384, 32767)]

    assert [text.decode() for text in made] == [
        "Good morning, it's 10 o'",
        "s 10 o'clock; the “film”",
        "o'clock; the “film” begins: 😀 now!",
    ]


def test_view_drops_the_given_fraction_of_words_in_order():
    text = " ".join(f"w{i}" for i in range(40))
    views = TextViews(40)
    parameters = np.array([[seed, 3000, 0] for seed in range(-50, 50)], np.int16)

    made = [split_words(one.decode()) for one in views.apply_to_texts(batch(*[text] * 100), parameters)]

    assert 0.27 < 1 - np.mean([len(words) for words in made]) / 40 < 0.33
    assert all(words == sorted(words, key=lambda word: int(word[1:])) for words in made)
    assert len({tuple(words) for words in made}) == 100


@pytest.mark.parametrize("text", ["only", "two words", ""])
def test_view_keeps_a_word_if_all_are_dropped(text):
    made = TextViews(6).apply_to_texts(batch(text), np.array([[7, 10_000, 0]], np.int16))[0].decode()

    assert len(split_words(made)) == min(1, len(split_words(text)))


def test_apply_gives_the_same_in_a_graph():
    views = TextViews(3)
    texts, parameters = batch(*[TEXT] * 3), views.draw(IDS[:3], recipe())[:, 2]

    graph = tf.function(views.apply, autograph=False)(tf.constant(texts, tf.string), parameters)

    assert graph.shape == (3,)
    assert (graph.numpy() == views.apply_to_texts(texts, parameters)).all()
