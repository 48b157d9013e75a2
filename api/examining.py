# SPDX-License-Identifier: Apache-2.0
"""Examines a teacher and data before a run: what they are, and which scaling of pixels the teacher expects."""

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from learn2compress.schemas.config import DataConfig, TeacherConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.units import format_bytes

if TYPE_CHECKING:
    import numpy as np

    from learn2compress.compression.teacher.classifier import LoadedTeacher
    from learn2compress.data.raw_examples import ExampleSource
    from learn2compress.evaluation.examination.fit import Reading
    from learn2compress.schemas.manifests import Task

IMAGES = 128  # on which the scalings are tried
# Field of the section `data` that tells the form of an example, by modality.
_SIZES = {"image": "height", "text": "max_tokens"}
# Beyond a margin of 17 nats float32 rounds the probability to 1, and cross-entropy no longer increases the logits; a
# trained classifier does not leave the classes nearly equal, either. Pixels of another range scale the logits.
PLAUSIBLE = (0.5, 25.0)


@dataclass(frozen=True)
class Findings:
    """What was found, in words for comments in a configuration.

    Attributes:
        scaling: Name of the scaling of pixels that the teacher expects; None if the default, or none, suits best.
        comments: What was found out about fields, as (section, field, sentence).
    """

    scaling: str | None
    comments: tuple[tuple[str, str, str], ...]

    def about(self, section: str, field: str) -> list[str]:
        """Return the sentences about a field."""
        return [text for where, name, text in self.comments if (where, name) == (section, field)]


def examine_inputs(teacher: TeacherConfig, data: DataConfig, limit: int | None = None) -> Findings:
    """List the data, load the teacher, and run inference on some images under each scaling.

    The scaling of `teacher` is replaced only by one that scores clearly more on the same images.

    Args:
        teacher: Section `teacher`.
        data: Section `data`.
        limit: Number of examples of each part that a run would take.

    Returns:
        What was found.

    Raises:
        TeacherError: The teacher cannot be loaded, or is no classifier of such examples.
        DataError: The data cannot be read.
    """
    from learn2compress.compression.teacher.configured import open_teacher
    from learn2compress.compression.teacher.formats import describe_file
    from learn2compress.compression.teacher.models import open_model
    from learn2compress.compression.teacher.trust import check_graph, check_layers
    from learn2compress.data.sources.formats import find_format, open_source, resolve_task
    from learn2compress.modalities import InputFiles, modality_named

    source = open_source(data, limit)
    about_data = _about_data(find_format(data), source)
    file = describe_file(teacher.path)
    check_layers(file)
    check_graph(file.path, teacher.trust)
    shape = None
    if source.example_shape is None:
        modality, files = modality_named(source.modality), InputFiles.named_by(teacher)
        shape = open_model(file, teacher.signature, teacher.output, modality, files, teacher.trust).input.shape
    task = resolve_task(data, source, shape)
    loaded = open_teacher(teacher, task)
    best, text = _best_scaling(loaded, task, open_source(data, IMAGES))
    comments = [
        ("teacher", "path", _about_teacher(loaded)),
        ("teacher", "scaling", text),
        *(("data", "path", sentence) for sentence in about_data),
        ("data", _SIZES[task.modality], f"found: the run will use {' × '.join(map(str, task.input_shape))}"),
        ("data", "classes", f"found: {_some(source.classes)}"),
    ]
    return Findings(best, tuple(comments))


def _about_teacher(teacher: "LoadedTeacher") -> str:
    shape = " × ".join("any" if side is None else str(side) for side in teacher.opened.input.shape) or "a text"
    parameters = "" if teacher.parameters is None else f", {teacher.parameters:,} parameters"
    outputs = f"{teacher.outputs} output{'s' * (teacher.outputs > 1)}"
    return (
        f"found: {teacher.format}, {format_bytes(teacher.size_bytes)}{parameters}; input {shape}, {outputs} "
        f"({teacher.output})"
    )


def _about_data(form: str, source: "ExampleSource") -> list[str]:
    counts = ", ".join(f"{count:,} {part or 'without a split'}" for part, count in source.counts.items())
    sides = "texts" if source.modality == "text" else "images of different sizes"
    if source.example_shape is not None and source.modality == "image":
        sides = f"images of {' × '.join(map(str, source.example_shape))}"
    return [f"found: {form}, {sides}, {counts}, {len(source.classes)} classes", *(f"note: {n}" for n in source.notes)]


def _best_scaling(teacher: "LoadedTeacher", task: "Task", source: "ExampleSource") -> tuple[str | None, str]:
    """Find the scaling with which the teacher is most accurate.

    Returns:
        Its name, or None if none is clearly better than the present one; and a sentence for the user.
    """
    from learn2compress.evaluation.examination.fit import best_reading, chance_of, near_chance

    if teacher.classes != len(task.classes):
        return (
            None,
            f"not tried: {teacher.classes} outputs for {len(task.classes)} classes; see class_order, skip_class",
        )
    images, labels = _some_images(task, source)
    present = _read(teacher, images, labels)
    others = teacher.opened.input.other_scalings(images.shape[1:], teacher.scaling)
    tried = {str(one.name): _read(teacher.with_scaling(one), images, labels) for one in others}
    readings = {name: reading for name, reading in tried.items() if reading is not None}
    if present is not None and not present.is_plausible:
        readings = {name: one for name, one in readings.items() if one.is_plausible} or readings
    best, chosen = best_reading({name: one.reading for name, one in readings.items()}), None
    if best is not None and (present is None or readings[best].beats(present)):
        chosen, found = best, readings[best]
    elif present is not None:
        found = present
    else:
        return None, f"tried: under no scaling are the outputs finite on {len(labels)} {task.modality}s"
    import numpy as np

    chance = chance_of(np.bincount(labels, minlength=len(task.classes)))
    doubt = ", which is near chance" if near_chance(found.reading.accuracy, chance, len(labels)) else ""
    now = "not finite" if present is None else f"{present.reading.accuracy:.1%}"
    name = chosen or teacher.scaling.name or "the given one"
    instead = f", with {teacher.scaling.name or 'the given one'} {now}" if chosen else ""
    score = f"the accuracy on {len(labels)} training {task.modality}s is {found.reading.accuracy:.1%}"
    return chosen, f"tried: with {name} {score}{instead}{doubt}"


@dataclass(frozen=True)
class _Tried:
    """What a teacher scores under one scaling.

    Attributes:
        reading: Accuracy and losses on the images.
        margin: Median difference of the two largest logits, in nats.
    """

    reading: "Reading"
    margin: float

    @property
    def is_plausible(self) -> bool:
        """Whether training leads to logits of this size."""
        return PLAUSIBLE[0] <= self.margin <= PLAUSIBLE[1]

    def beats(self, present: "_Tried") -> bool:
        """Tell whether this scaling fits the teacher better than the present one."""
        from learn2compress.evaluation.examination.fit import clearly_better, much_surer

        if clearly_better(self.reading, present.reading) or much_surer(self.reading, present.reading):
            return True
        more_plausible = self.is_plausible and not present.is_plausible
        return more_plausible and not clearly_better(present.reading, self.reading)


def _read(teacher: "LoadedTeacher", images: "np.ndarray", labels: "np.ndarray") -> _Tried | None:
    """Compare a teacher's logits with the labels; None if they are not finite."""
    import numpy as np

    from learn2compress.evaluation.examination.fit import read_scores

    logits = teacher.logits(images, must_be_finite=False)
    if not np.isfinite(logits).all():
        return None
    two = np.sort(logits, axis=1)[:, -2:]
    return _Tried(read_scores(logits, labels), float(np.median(two[:, 1] - two[:, 0])))


def _some_images(task: "Task", source: "ExampleSource") -> "tuple[np.ndarray, np.ndarray]":
    """Read images of the first part, [n, height, width, channels] uint8, and their labels, [n] int64.

    Raises:
        DataError: None of them can be read.
    """
    import numpy as np

    from learn2compress.modalities import modality_of
    from learn2compress.schemas.manifests import BadFile

    part = next(iter(source.counts))
    examples: Any = (example for piece in source.pieces for example in piece.read())
    chosen = list(islice((one for one in examples if not isinstance(one, BadFile) and one.part == part), IMAGES))
    if not chosen:
        raise DataError(f"the data must hold {task.modality}s that can be read; got none. Check data.path.")
    records = modality_of(task).records(task)
    images = records.decode([records.encode(records.fit(one.content)) for one in chosen])
    return images, np.array([one.label for one in chosen], np.int64)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
