# SPDX-License-Identifier: Apache-2.0
"""Prunes nested dictionaries: removes the rows whose words have the least effect, and counts what is left.

The rows are ranked anew by the effect of leaving them out under the trained largest student, see importance.py; a
smaller student takes the first rows of the new order. Each student keeps the same fraction of its rows.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tf_keras as keras

from learn2compress.compression.dictionary.importance import drop_one_effect, ranked
from learn2compress.compression.dictionary.model import LOGITS, TABLE, NestedDictionary, assemble, nested_layer
from learn2compress.compression.dictionary.sizing import LEAST_ROWS
from learn2compress.compression.dictionary.spec import DictionarySpec, DictionaryStudent
from learn2compress.compression.family.sizing import label_bytes
from learn2compress.compression.family.spec import Cost
from learn2compress.modalities.text.lookup.dictionary import Dictionary
from learn2compress.schemas.errors import FamilyError


class PrunedRows(NamedTuple):
    """A family after the removal of rows.

    Attributes:
        family: The family with fewer rows and the same weights in those that are left.
        dictionary: Its dictionary, in the new order.
        effect: Fraction of the total effect of all rows that is left in the largest student.
    """

    family: keras.Model
    dictionary: Dictionary
    effect: float


def describe_spec(
    family: keras.Model, names: Sequence[str], dictionary: Dictionary, classes: Sequence[str]
) -> DictionarySpec:
    """Describe a trained family of dictionaries.

    Args:
        family: Model of `build_dictionaries`.
        names: Names of its students.
        dictionary: Its dictionary.
        classes: Names of the classes.
    """
    nested: NestedDictionary = family.get_layer(TABLE)
    carried = dictionary.cumulative_bytes()
    students = tuple(
        DictionaryStudent(name, rows, columns, int(carried[rows]))
        for name, rows, columns in zip(names, nested.rows, nested.columns, strict=True)
    )
    return DictionarySpec(family.input_shape[1], len(classes), students, label_bytes(classes), dictionary.carrier)


def dictionary_costs(
    family: keras.Model, names: Sequence[str], dictionary: bytes, classes: Sequence[str]
) -> dict[str, Cost]:
    """Compute the cost of each student of a trained family of dictionaries; see `describe_spec`."""
    return describe_spec(family, names, Dictionary.from_bytes(dictionary), classes).costs()


def kept_fraction(spec: DictionarySpec, target: Mapping[str, float | int | None]) -> float:
    """Compute the fraction of rows that is kept for a target of the largest student.

    Args:
        spec: The family.
        target: `fraction` of rows to remove, or `bytes` of the file: a number, or a fraction of its present size; as in
            `prune.channels`.

    Raises:
        FamilyError: The target is in MACs, or no number of rows meets it.
    """
    if target.get("macs") is not None:
        raise FamilyError(
            "prune.channels of texts must be bytes or a fraction, since a dictionary computes next to nothing; "
            "got macs. Write {bytes: 50%}."
        )
    largest = spec.students[-1]
    kept = 1.0 - float(target.get("fraction") or 0.0)
    wanted = target.get("bytes")
    if wanted is not None:
        present = spec.cost(largest).predicted_bytes
        limit = wanted * present if isinstance(wanted, float) and wanted < 1 else wanted
        # Every row costs about the same number of bytes in the table and in the dictionary.
        row = (largest.rows * largest.columns + largest.carried) / largest.rows
        kept = min(kept, 1 - max(0.0, present - float(limit)) / row / largest.rows)
    if kept * spec.students[0].rows < LEAST_ROWS:
        least = LEAST_ROWS / spec.students[0].rows
        raise FamilyError(
            f"prune.channels must leave at least {LEAST_ROWS} rows in student {spec.students[0].name!r}, {least:.0%} "
            f"of them; got {max(kept, 0):.0%}. Raise the target."
        )
    return kept


def prune_rows(
    family: keras.Model, names: Sequence[str], dictionary: Dictionary, ids: np.ndarray, kept: float
) -> PrunedRows:
    """Remove the rows with the least effect.

    Args:
        family: Trained model of `build_dictionaries`.
        names: Names of its students.
        dictionary: Its dictionary.
        ids: Ids of training texts, [texts, length] int32, by which the rows are counted.
        kept: Fraction of the rows of each student that is kept.
    """
    nested = nested_layer(family)
    if nested is None:
        raise FamilyError("rows can be removed from a family of dictionaries only; got another one. Leave it out.")
    table = nested.table.numpy()
    logits = family.get_layer(LOGITS)
    kernel, _ = logits.of_student(len(names) - 1)
    effect = drop_one_effect(table[1:, : nested.columns[-1]] @ kernel, _texts_with(ids, len(table))[1:])
    order = ranked(effect)
    rows = [max(LEAST_ROWS, int(kept * count)) for count in nested.rows]
    order = order[: rows[-1]]
    shapes = list(zip(names, rows, nested.columns, strict=True))
    smaller = assemble(shapes, family.input_shape[1], kernel.shape[1], nested.drop, nested.seed or 0)
    smaller.get_layer(TABLE).table.assign(np.concatenate([table[:1], table[1:][order]]))
    smaller.get_layer(LOGITS).set_weights(logits.get_weights())
    left = float(effect[order].sum() / max(effect.sum(), 1e-12))
    return PrunedRows(smaller, dictionary.keeping(order.tolist()), left)


def _texts_with(ids: np.ndarray, rows: int) -> np.ndarray:
    """Count the texts with each id, [rows]."""
    counts = np.zeros(rows, np.int64)
    for text in ids:
        counts[np.unique(text)] += 1
    return counts
