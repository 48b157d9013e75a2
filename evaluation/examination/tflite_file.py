# SPDX-License-Identifier: Apache-2.0
"""Examines a .tflite file: opens it as it wants to be read, says how, and judges the figures that result.

What the user gives comes first, then what the file says of itself. What neither says is assumed, and an assumption is
tried against the alternatives on some labelled images, so that a wrong one is refused and not measured in silence.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from learn2compress.evaluation import metrics
from learn2compress.evaluation.examination.classes import ClassMatch, DataClasses, match_classes
from learn2compress.evaluation.examination.fit import (
    MUCH_BETTER,
    SUSPECT,
    Reading,
    best_class_order,
    best_reading,
    chance_of,
    clearly_better,
    good_score,
    much_surer,
    near_chance,
    read_scores,
)
from learn2compress.modalities import OpenedClassifier, modality_named
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.scaling import PRESETS, Scaling
from learn2compress.tflite.parsed_file import ParsedFile

_FLOOR = 1e-12  # probability whose logarithm stands for that of 0


class Choices(NamedTuple):
    """What the user says of the files.

    Attributes:
        scaling: What they expect of pixels 0..255.
        signature: The entry point, of several.
        output: Name or index of the output with the scores, of several.
        skip_classes: Names or indices of outputs to leave out.
        classes_stated: Whether the data's classes were given, in the order of the outputs.
        allow_near_chance: Whether figures that may be meaningless are given all the same.
        example_shape: Shape of the data's images, where they have one: that of a file which takes them flattened.
    """

    scaling: Scaling | None = None
    signature: str | None = None
    output: str | None = None
    skip_classes: tuple[str, ...] = ()
    classes_stated: bool = False
    allow_near_chance: bool = False
    example_shape: tuple[int, ...] | None = None


@dataclass
class ExaminedFile:
    """An opened file with what was settled about it.

    Attributes:
        classifier: Opened so that its scores are those of the data's classes.
        classes: Which output stands for which class.
        read_as: How it is read, in sentences.
        warnings: What may be wrong with its figures.
    """

    classifier: OpenedClassifier
    classes: ClassMatch
    read_as: list[str]
    warnings: list[str] = field(default_factory=list)


def open_options(choices: Choices) -> dict[str, Any]:
    """Return the options of `DeviceFormat.open_classifier` that the choices stand for."""
    return {
        **{"scaling": choices.scaling, "signature": choices.signature, "output": choices.output},
        **({"example_shape": choices.example_shape} if choices.example_shape else {}),
    }


def examine(source: ParsedFile, modality: str, data: DataClasses, choices: Choices) -> ExaminedFile:
    """Open a file as it says, or as the user says, that it wants to be read.

    Raises:
        ModelFileError: It is no classifier of such data, or something has to be chosen.
    """
    classifier = modality_named(modality).device_format.open_classifier(source, **open_options(choices))
    match = match_classes(
        classifier.labels, classifier.scores.classes, data, choices.skip_classes, file=classifier.model.file
    )
    classifier.order_outputs(match.order)
    pixels = classifier.pixels
    examined = ExaminedFile(classifier, match, list(_read_as(classifier, match)), list(match.warnings))
    examined.warnings += _left_aside(source, classifier)
    if pixels is not None and pixels.doubt:
        _doubt(examined, f"{classifier.model.file} cannot be read for certain: {pixels.doubt}", choices)
    return examined


def judge(
    examined: ExaminedFile,
    source: ParsedFile,
    right: np.ndarray,
    labels: np.ndarray,
    sample: tuple[np.ndarray, np.ndarray],
    modality: str,
    choices: Choices,
) -> None:
    """Judge what a file scores; adds to its warnings.

    Args:
        examined: The file.
        source: The same.
        right: [images] bool, whether each was classified correctly.
        labels: [images] int, their classes.
        sample: Some of the images as the file takes them, with their labels.
        modality: Of the images.
        choices: What the user says.

    Raises:
        ModelFileError: The figures would be meaningless, and they are not wanted all the same.
    """
    classifier, file = examined.classifier, examined.classifier.model.file
    accuracy, chance = float(right.mean()), chance_of(np.bincount(labels))
    near = near_chance(accuracy, chance)
    pixels = classifier.pixels  # None for texts, which have no scaling
    assumed = pixels is not None and pixels.source in ("assumed", "range")
    hints, wrong = [], False
    if near or accuracy < SUSPECT or (pixels is not None and pixels.source != "metadata"):
        present = _reading(classifier, sample)
        found = _other_scaling(source, examined, sample, present, good_score(chance), modality, choices)
        if found:
            hints.append(found.hint)
            wrong = assumed and found.clearly
        flat = _channels_first(source, examined, sample, present, modality, choices)
        hints, wrong = [*hints, *flat], wrong or bool(flat)
        if not found and not flat and not examined.classes.by_name and accuracy < SUSPECT:
            order = _other_order(examined, sample, present, chance)
            hints += order
            wrong = wrong or bool(order)
    if near or wrong:
        what = f"{file} scores {accuracy:.1%} of {len(right)} images" + (
            f", where naming the most frequent class alone scores {chance:.1%}" if near else ""
        )
        tried = "" if pixels is None else "No other scaling of pixels does better: "
        whose = "Its vocabulary may be another, or its" if pixels is None else "its"
        reasons = hints or [f"{tried}{whose} outputs may stand for other classes, which --classes names in their order"]
        _doubt(examined, ". ".join([what, *reasons]), choices)
    else:
        examined.warnings += hints
        if pixels is not None and pixels.source == "assumed" and not hints:
            tried = f"no other scaling does better on {len(sample[1])} of the images"
            examined.warnings.append(f"{pixels.said}; {tried}. Give --scaling to be certain")
        if near_chance(accuracy, chance, len(right)):
            examined.warnings.append(f"{len(right)} images are too few to tell its accuracy from chance, {chance:.1%}")


def _doubt(examined: ExaminedFile, what: str, choices: Choices) -> None:
    if not choices.allow_near_chance:
        raise ModelFileError(f"{what}. To measure it all the same, give --allow-near-chance.")
    examined.warnings.append(what)


def _read_as(classifier: OpenedClassifier, match: ClassMatch) -> Iterator[str]:
    yield from classifier.read_as
    yield match.said
    if classifier.scores.units == 1:
        yield "one output unit, read as two classes"


def _left_aside(source: ParsedFile, classifier: OpenedClassifier) -> Iterator[str]:
    if classifier.lost_labels:
        yield f"its metadata name the labels {classifier.lost_labels}, which another tool has left out of the file"
    if len(source.facts.signatures) > 1:
        used = next((found.name for found in classifier.model.signatures if found.subgraph == 0), "")
        others = [found.name for found in source.facts.signatures if found.name != used]
        yield f"of its signatures, {used} is measured and {', '.join(others)} left aside"
    if len(classifier.model.outputs) > 1:
        yield f"of its {len(classifier.model.outputs)} outputs, one is measured"
    if classifier.scores.kind == "sigmoid" and classifier.scores.units > 1:
        yield "its outputs are separate yes-or-no probabilities (sigmoid): the largest counts as its prediction"


class _OtherScaling(NamedTuple):
    hint: str
    clearly: bool


def _other_scaling(
    source: ParsedFile,
    examined: ExaminedFile,
    sample: tuple[np.ndarray, np.ndarray],
    present: Reading,
    good: float,
    modality: str,
    choices: Choices,
) -> _OtherScaling | None:
    """Try the other presets, and say which of them, if any, does better than the present reading."""
    if examined.classifier.pixels is None or examined.classifier.pixels.source == "whole pixels":
        return None
    readings: dict[str, Reading] = {}
    for name in PRESETS:
        scaling = Scaling.named(name)
        if scaling == examined.classifier.pixels.scaling or not scaling.suits(sample[0].shape[-1]):
            continue
        options = open_options(choices._replace(scaling=scaling))
        other = modality_named(modality).device_format.open_classifier(source, **options)
        if other.pixels is not None and not other.pixels.doubt:
            other.order_outputs(examined.classes.order)
            readings[name] = _reading(other, sample)
    best = best_reading(readings)
    if best is None or readings[best].accuracy <= good:
        return None
    clearly = clearly_better(readings[best], present)
    if not clearly and not much_surer(readings[best], present):
        return None
    surer = "" if clearly else ", and gives the true classes more probability"
    return _OtherScaling(
        f"With --scaling {best} it scores {readings[best].accuracy:.1%} of {len(sample[1])} of the images, where as it "
        f"is read it scores {present.accuracy:.1%} of them{surer}",
        clearly,
    )


def _channels_first(
    source: ParsedFile,
    examined: ExaminedFile,
    sample: tuple[np.ndarray, np.ndarray],
    present: Reading,
    modality: str,
    choices: Choices,
) -> list[str]:
    """Say so if flattened colours seem to be meant a channel after the other."""
    layout, pixels = examined.classifier.layout, examined.classifier.pixels
    if layout is None or pixels is None or layout.axes != "flat" or sample[0].shape[-1] == 1:
        return []
    options = open_options(choices._replace(scaling=pixels.scaling))
    other = modality_named(modality).device_format.open_classifier(source, channels_first=True, **options)
    other.order_outputs(examined.classes.order)
    reading = _reading(other, sample)
    if not clearly_better(reading, present):
        return []
    return [
        f"Its flattened input seems to take a channel after the other: so it scores {reading.accuracy:.1%} of "
        f"{len(sample[1])} of the images, where pixel after pixel it scores {present.accuracy:.1%} of them. Convert it "
        "with an input [1, channels, height, width] and the reshaping inside"
    ]


def _other_order(
    examined: ExaminedFile, sample: tuple[np.ndarray, np.ndarray], present: Reading, chance: float
) -> list[str]:
    """Say in which order its outputs seem to stand, if that explains a low score."""
    classes = examined.classifier.classes
    predicted = examined.classifier.predict(sample[0]).argmax(axis=1)
    score, order = best_class_order(predicted, sample[1], classes, classes)
    if score <= max(good_score(chance), present.accuracy + MUCH_BETTER):
        return []
    first = ", ".join(str(order.index(output)) for output in range(min(classes, 10)))
    return [
        f"Its outputs seem to stand for other classes: with output 0, 1, … taken for the classes {first}"
        f"{' …' if classes > 10 else ''} it scores {score:.1%}. Give --classes in the order of its outputs"
    ]


def _reading(classifier: OpenedClassifier, sample: tuple[np.ndarray, np.ndarray]) -> Reading:
    scores = classifier.predict(sample[0])
    if classifier.scores.kind != "logits":
        scores = np.log(np.maximum(metrics.probabilities(scores), _FLOOR))
    return read_scores(scores, sample[1])
