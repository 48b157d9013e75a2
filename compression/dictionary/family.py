# SPDX-License-Identifier: Apache-2.0
"""The default family of texts, as an `Architecture`: its dictionary is chosen from texts and the teacher's logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tf_keras as keras

from learn2compress.compression.dictionary.candidates import collect
from learn2compress.compression.dictionary.importance import mutual_information, naive_bayes, ranked
from learn2compress.compression.dictionary.model import build_dictionaries, start_at
from learn2compress.compression.dictionary.sizing import describe_dictionaries, solve_dictionaries
from learn2compress.compression.dictionary.spec import DictionarySpec
from learn2compress.compression.family.sizing import label_bytes
from learn2compress.compression.family.spec import Cost
from learn2compress.modalities.text.lookup.dictionary import Carrier, Dictionary
from learn2compress.modalities.text.lookup.keys import WORDS_ONLY, Features
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.manifests import LayerQuantization, Task

# Prefixes and pairs of words must occur in this many texts to be candidates; single words need only one.
LEAST_TEXTS = 2
# Of naive Bayes' logits, which are too large since words of a text depend on each other.
INITIAL_SCALE = 0.3


def choose_dictionary(
    texts: Sequence[bytes], probabilities: np.ndarray, carrier: Carrier, features: Features
) -> tuple[Dictionary, np.ndarray]:
    """Order the features of training texts by what they tell of the teacher's class.

    Args:
        texts: Training texts, UTF-8.
        probabilities: Teacher's probabilities of these texts, [texts, classes].
        carrier: Carrier of the dictionary.
        features: Kinds of features.

    Returns:
        The dictionary of all features, the most important one first, and what each adds to the logits by naive Bayes,
        [features, classes] float64.
    """
    found = collect(texts, carrier, features, LEAST_TEXTS)
    order = ranked(mutual_information(found, probabilities))
    whole = Dictionary(carrier, found.entries, found.forms, features)
    return whole.keeping(order.tolist()), naive_bayes(found, probabilities)[order]


class DictionaryFamily:
    """Nested dictionaries, see model.py.

    Args:
        sizes: Size by name of the student.
        task: The classification task.
        carrier: Carrier of the dictionary.
        features: Kinds of features, for the carrier `keys`.
        drop: Fraction of the words that are left out while training.
    """

    source = None

    def __init__(
        self,
        sizes: Mapping[str, StudentSize],
        task: Task,
        carrier: Carrier = "words",
        features: Features = WORDS_ONLY,
        drop: float = 0.5,
    ) -> None:
        if carrier == "words" and features != WORDS_ONLY:
            raise FamilyError(
                "students.dictionary must be keys for prefixes and pairs of words; got words. Set it to keys."
            )
        self._sizes, self._task, self._carrier, self._features, self._drop = sizes, task, carrier, features, drop
        self.dictionary: Dictionary | None = None
        self._initial: np.ndarray | None = None
        self.spec: DictionarySpec = self._solve()

    def prepare(self, texts: Sequence[bytes], probabilities: np.ndarray) -> None:
        """Choose the dictionary, and with it the exact number of rows of each student.

        Args:
            texts: Training texts, UTF-8.
            probabilities: Teacher's probabilities of these texts, [texts, classes].
        """
        whole, initial = choose_dictionary(texts, probabilities, self._carrier, self._features)
        self.dictionary = whole
        self.spec = self._solve()
        rows = self.spec.students[-1].rows
        self.dictionary = whole.first(rows)
        # Pairs and prefixes repeat what their words tell, so that naive Bayes would count it several times.
        self._initial = INITIAL_SCALE * initial[:rows] if self._features == WORDS_ONLY else None

    def costs(self) -> dict[str, Cost]:
        """Compute the costs from the specification."""
        return self.spec.costs()

    def build(self, seed: int) -> keras.Model:
        """See `build_dictionaries`; the rows of a known dictionary of words start at naive Bayes."""
        model = build_dictionaries(self.spec, self._drop, seed)
        if self._initial is not None:
            start_at(model, self._initial)
        return model

    def preflight(self) -> dict[str, list[LayerQuantization]]:
        """Return that all layers are quantized after training, by which a table loses next to nothing."""
        layers = (("table", "Embedding"), ("mean", "GlobalAveragePooling1D"), ("logits", "Dense"))
        why = "tfmot cannot quantize the integer input of a table"
        return {
            name: [
                LayerQuantization(layer=f"{name}_{layer}", type=kind, method="post-training", why=why)
                for layer, kind in layers
            ]
            for name in self.spec.names
        }

    def describe(self) -> str:
        """Format a table of sizes."""
        return describe_dictionaries(self.spec)

    def _solve(self) -> DictionarySpec:
        classes = self._task.classes
        return solve_dictionaries(
            self._sizes, self._task.input_shape[0], len(classes), label_bytes(classes), self._carrier, self.dictionary
        )
