# SPDX-License-Identifier: Apache-2.0
"""A small family of dictionaries with weights from a seed, and its .tflite files."""

from functools import lru_cache

import numpy as np
import tf_keras as keras

from learn2compress.compression.dictionary.model import build_dictionaries
from learn2compress.compression.dictionary.sizing import solve_dictionaries
from learn2compress.compression.dictionary.spec import DictionarySpec
from learn2compress.compression.family.model import cut_students
from learn2compress.compression.family.sizing import label_bytes
from learn2compress.compression.quantization.conversion import convert_float, convert_post_training
from learn2compress.modalities.text.device_format import TextDeviceFormat
from learn2compress.modalities.text.lookup.dictionary import Carrier, Dictionary
from learn2compress.modalities.text.lookup.keys import Features
from learn2compress.modalities.text.student_input import TextStudentInput
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.scaling import Scaling

CLASSES = ["bad", "good", "neither"]
LENGTH = 12
SIZES = {"small": StudentSize(size_bytes=4500), "large": StudentSize(size_bytes=9000)}
WORDS = tuple(
    f"{a}{b}" for a in ("ba", "co", "di", "fu", "ge", "hy", "ki", "lo") for b in "abcdefghijklmnopqrstuvwxyz" * 2
)


def dictionary_of(carrier: Carrier) -> Dictionary:
    """Makes a dictionary of made-up words."""
    entries = tuple(f"{word}{index}" for index, word in enumerate(WORDS * 4))
    if carrier == "words":
        return Dictionary(carrier, entries, tuple((entry, entry.capitalize()) for entry in entries))
    return Dictionary(carrier, entries, (), Features(pairs=True, prefix=4))


@lru_cache
def small_family(carrier: Carrier) -> tuple[DictionarySpec, keras.Model, Dictionary]:
    """Makes a family, untrained; its rows have an effect on the logits."""
    dictionary = dictionary_of(carrier)
    spec = solve_dictionaries(SIZES, LENGTH, len(CLASSES), label_bytes(CLASSES), carrier, dictionary)
    model = build_dictionaries(spec, 0.5, seed=3)
    model.get_layer("dictionary").table.assign_add(
        np.random.default_rng(0).normal(size=model.get_layer("dictionary").table.shape)
    )
    return spec, model, dictionary.first(spec.students[-1].rows)


def texts_of(dictionary: Dictionary, count: int, seed: int = 0) -> np.ndarray:
    """Makes texts of words of the dictionary and others, with emoji, an empty and an overlong one."""
    rng = np.random.default_rng(seed)
    words = np.array([*dictionary.entries[:300], "unknown", "אבג", "👍🏽"], object)
    texts = [" ".join(rng.choice(words, rng.integers(1, 10))) for _ in range(count - 3)]
    return np.array([text.encode() for text in (*texts, "", "👍🏽 é", " ".join(words[:60]))], object)


@lru_cache
def student_file(carrier: Carrier, student: str, variant: str) -> bytes:
    """Converts a student of the small family and writes its dictionary into the file."""
    spec, family, dictionary = small_family(carrier)
    model = cut_students(family, spec.names)[student]
    rows = model.layers[1].input_dim - 1
    if variant == "float32":
        parsed = convert_float(model, variant, TextStudentInput())
    else:
        examples = dictionary.lookup.encode(texts_of(dictionary, 50), LENGTH)
        parsed = convert_post_training(model, variant, examples, TextStudentInput(rows))
    TextDeviceFormat().write_metadata(
        parsed,
        name=f"{student}-{variant}",
        made="distilled by Learn2Compress",
        labels=CLASSES,
        output_name="probability",
        normalization=Scaling.named("none"),
        dictionary=dictionary.to_bytes(),
    )
    return parsed.to_bytes()
