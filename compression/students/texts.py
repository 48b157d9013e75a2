# SPDX-License-Identifier: Apache-2.0
"""The default students of texts as an `Architecture`: nested dictionaries that are chosen from the training data."""

import numpy as np
import tf_keras as keras

from learn2compress.compression.dictionary.family import DictionaryFamily
from learn2compress.compression.dictionary.taken import taken
from learn2compress.compression.family.spec import Cost
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.data.batches import iter_numpy
from learn2compress.modalities.text.lookup.keys import Features
from learn2compress.schemas.config import FamilyConfig
from learn2compress.schemas.manifests import LayerQuantization, Task

DEFAULT_DROP = 0.5
DEFAULT_PREFIX = 0


class TextStudents:
    """The family of compression/dictionary/, with its settings from the section `students`.

    Args:
        config: Sizes of the students and kind of their dictionary.
        task: The classification task.
    """

    spec = None
    source = None

    def __init__(self, config: FamilyConfig, task: Task) -> None:
        drop = DEFAULT_DROP if config.word_dropout is None else config.word_dropout
        features = Features(pairs=bool(config.word_pairs), prefix=config.prefix or DEFAULT_PREFIX)
        self._family = DictionaryFamily(config.sizes, task, config.dictionary or "words", features, drop)

    chosen = None

    @property
    def dictionary(self) -> bytes | None:
        """The dictionary as it is stored with the students; None before `prepare`."""
        found = self._family.dictionary
        return None if found is None else found.to_bytes()

    def prepare(self, data: TrainingData) -> TrainingData:
        """Choose the dictionary from the training texts and the teacher's probabilities of them."""
        texts: list[bytes] = []
        probabilities: list[np.ndarray] = []
        classes = len(data.task.classes)
        for batch in iter_numpy(data.teaching()):
            texts += batch["example"].tolist()
            if batch["logits"].shape[-1] == classes:
                logits = batch["logits"][:, 0].astype(np.float64)  # of view 0, the text itself
                powers = np.exp(logits - logits.max(axis=1, keepdims=True))
                probabilities.append(powers / powers.sum(axis=1, keepdims=True))
            else:
                probabilities.append(np.eye(classes)[batch["label"]])
        self._family.prepare(texts, np.concatenate(probabilities))
        return taken(data, self.dictionary)

    def costs(self) -> dict[str, Cost]:
        """See `DictionaryFamily.costs`."""
        return self._family.costs()

    def build(self, seed: int) -> keras.Model:
        """See `DictionaryFamily.build`."""
        return self._family.build(seed)

    def preflight(self) -> dict[str, list[LayerQuantization]]:
        """See `DictionaryFamily.preflight`."""
        return self._family.preflight()

    def describe(self) -> str:
        """See `DictionaryFamily.describe`."""
        return self._family.describe()
