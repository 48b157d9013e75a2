# SPDX-License-Identifier: Apache-2.0
"""Settles which output of a classifier stands for which class of the data: by name where the classifier has names."""

from collections.abc import Sequence
from typing import NamedTuple

from learn2compress.schemas.errors import ModelFileError

_SHOWN = 3


class DataClasses(NamedTuple):
    """The classes of the data.

    Attributes:
        names: In label order.
        own: Whether the data name them; else the names are numbers that stand in for names.
        stated: Whether the user gave them, in the order of the outputs.
    """

    names: tuple[str, ...]
    own: bool = True
    stated: bool = False


class ClassMatch(NamedTuple):
    """Which output stands for each class.

    Attributes:
        order: For each class of the data, the index of its output.
        said: How that was settled.
        by_name: Whether names settled it.
        warnings: What may be wrong with it.
    """

    order: tuple[int, ...]
    said: str
    by_name: bool
    warnings: tuple[str, ...] = ()


def match_classes(
    labels: Sequence[str], outputs: int, data: DataClasses, skip: Sequence[str] = (), *, file: str
) -> ClassMatch:
    """Match a file's outputs to the classes of the data.

    Args:
        labels: Names of the outputs that the file gives, if any; of a single unit, that of its one class or of both.
        outputs: Number of its scores; 2 for a single unit.
        data: The classes of the data.
        skip: Names or indices of outputs to leave out, such as that of a background class.
        file: What errors call it.

    Raises:
        ModelFileError: There is not one output for each class, or the names differ.
    """
    if outputs == 2 and len(labels) == 1:
        # The unit of a yes-or-no classifier is named after its yes.
        others = [name for name in data.names if _key(name) != _key(labels[0])]
        labels = (others[0] if len(others) == 1 else "", labels[0])
    warnings = []
    if labels and len(labels) != outputs:
        warnings.append(f"it names {len(labels)} classes and gives {outputs} scores: its names are not used")
        labels = ()
    left_out = {find_output(wanted, labels, outputs, file) for wanted in skip}
    kept = [index for index in range(outputs) if index not in left_out]
    keys = [_key(labels[index]) for index in kept] if labels else []
    wanted = [_key(name) for name in data.names]
    if labels and len(set(keys)) == len(keys) and len(set(wanted)) == len(wanted):
        if set(keys) == set(wanted):
            order = tuple(kept[keys.index(key)] for key in wanted)
            said = "classes matched by name" + (", in another order than the data's" if list(order) != kept else "")
            return ClassMatch(order, said, True, tuple(warnings))
        if set(wanted) < set(keys):
            extra = [labels[index] for index, key in zip(kept, keys, strict=True) if key not in wanted]
            options = " ".join(f'--skip-class "{name}"' for name in extra[:_SHOWN])
            raise ModelFileError(
                f"{file} must return a score for each of {len(wanted)} classes; got {len(kept)} scores, among them "
                f"{_some(extra)}, which the data lack. Leave them out with {options}"
                f"{' and so on' if len(extra) > _SHOWN else ''}."
            )
    if len(kept) != len(wanted):
        raise _wrong_number(file, len(kept), len(wanted), outputs, bool(skip))
    if labels and data.own and not data.stated:
        strange = [labels[index] for index, key in zip(kept, keys, strict=True) if key not in wanted]
        raise ModelFileError(
            f"{file} must name the classes of the data, {_some(data.names)}; it names {_some(strange or labels)}. If "
            "its outputs stand for them all the same, give the data's names in the order of the outputs with --classes."
        )
    if labels:
        why = "--classes says so" if data.stated else "the data do not name their classes"
        warnings.append(f"its labels ({_some(labels)}) are not those of the data: matched by position, as {why}")
    return ClassMatch(tuple(kept), "classes matched by position", False, tuple(warnings))


def find_output(wanted: str, labels: Sequence[str], outputs: int, file: str) -> int:
    """Find the output that a name or an index stands for.

    Raises:
        ModelFileError: There is none.
    """
    named = [index for index, label in enumerate(labels) if _key(label) == _key(wanted)]
    if len(named) == 1:
        return named[0]
    if wanted.isdecimal() and int(wanted) < outputs:
        return int(wanted)
    known = f", or {_some(labels)}" if labels else ""
    raise ModelFileError(
        f"A class to skip must be an index from 0 to {outputs - 1}{known} of {file}; got {wanted!r}. Correct "
        "--skip-class."
    )


def _key(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _wrong_number(file: str, given: int, wanted: int, outputs: int, skipped: bool) -> ModelFileError:
    remedy = "Check that its labels are those of the data."
    if given == wanted + 1 and not skipped:
        remedy = (
            f"If one is of a background class, leave it out: --skip-class 0 where it is the first, --skip-class "
            f"{outputs - 1} where it is the last."
        )
    return ModelFileError(f"{file} must return a score for each of {wanted} classes; got {given} scores. {remedy}")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
