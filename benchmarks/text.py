# SPDX-License-Identifier: Apache-2.0
"""Measures students of texts on AG News and SST-2: the whole int8 file with its dictionary, on the test split.

    python benchmarks/text.py --agnews DIR --sst2 DIR --agnews-teacher OUT --sst2-teacher OUT

DIR are the folders of forest-snow/alps@3c7ef2c9: AG News has 9,001 texts to train on, 1,000 for validation and 7,600
for the test, SST-2 has 60,614, 6,735 and 872. OUT are the folders of benchmarks/text_teacher.py, which says how the
teachers are made: their logits on the training texts and on views of them. Without them the students learn from the
labels only. Each figure is the mean of the seeds, with the 95 % interval (Wilson) of the test split. On AG News the
epoch is chosen on the validation split. Of SST-2 nearly all texts of the dev split lie inside training texts, so that
it chooses nothing: `--split validation` holds out whole sentences of the train split instead (inputs/sentences.py), by
which the number of epochs was chosen, and the last epoch is taken.

The last line is JSON: for each task and budget the accuracy, its interval and the bytes, the accuracy of 1,000 labels
with and without the teacher's outputs on the other texts, the accuracy on SST-2 without pairs and prefixes at the same
bytes, and the ratio of the time of training three students jointly to that of the largest alone: of steps and of whole
epochs, the median of consecutive pairs and the ratio of the shortest by the clock, and the median by processor time.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np
import tensorflow as tf
import tf_keras as keras
from inputs.sentences import hold_out_sentences
from text_teacher import SPLITS, read_split, view_of

from learn2compress.compression.dictionary.family import DictionaryFamily
from learn2compress.compression.family.model import cut_students
from learn2compress.compression.quantization.conversion import OUTPUT_NAME, convert_post_training
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.evaluation.metrics import wilson_interval
from learn2compress.modalities.text.device_format import TextDeviceFormat
from learn2compress.modalities.text.lookup.dictionary import Carrier
from learn2compress.modalities.text.lookup.keys import Features
from learn2compress.modalities.text.student_input import TextStudentInput
from learn2compress.schemas.config import LossConfig, StudentSize
from learn2compress.schemas.manifests import Task
from learn2compress.schemas.scaling import Scaling

BATCH = 128
BLOCK = 20  # steps that are timed at a time
HELD_OUT = 1500  # sentences of SST-2


@dataclass(frozen=True)
class Settings:
    """How the students of a task are trained; chosen on the validation split."""

    length: int
    features: Features
    drop: float
    epochs: int
    learning_rate: float
    soft_weight: float
    temperature: float = 1.0
    carrier: Carrier = "keys"


SETTINGS = {
    "agnews": Settings(96, Features(), 0.6, 40, 5e-3, 0.5),
    "sst2": Settings(64, Features(pairs=True, prefix=5), 0.4, 3, 1e-2, 0.9),
}
BUDGETS = {"agnews": (20, 50, 100, 200), "sst2": (15, 30, 100)}


@dataclass(frozen=True)
class Corpus:
    """The splits of a task, as UTF-8 bytes and class numbers, and the teacher's logits.

    Attributes:
        classes: Names of the classes.
        views: The training texts and views of them, each [texts] bytes.
        labels: Classes of the training texts, [texts]; -1 without a label.
        logits: Teacher's logits of each view, [texts, classes]; None without a teacher.
        validation: Texts and classes by which the epoch is chosen; None: the last epoch.
        test: Texts and classes on which the files are measured.
    """

    classes: list[str]
    views: list[np.ndarray]
    labels: np.ndarray
    logits: list[np.ndarray] | None
    validation: tuple[np.ndarray, np.ndarray] | None
    test: tuple[np.ndarray, np.ndarray]
    teacher_accuracy: float | None = None

    def with_sentences_held_out(self, count: int) -> "Corpus":
        """Returns the corpus without some of the sentences and their phrases, with these sentences as the test."""
        kept, held_out = hold_out_sentences([text.decode() for text in self.views[0]], count)
        logits = [some[kept] for some in self.logits] if self.logits else None
        test = (self.views[0][held_out], self.labels[held_out])
        views = [some[kept] for some in self.views]
        return replace(self, views=views, labels=self.labels[kept], logits=logits, test=test)

    def first(self, count: int) -> "Corpus":
        """Returns the corpus with some of the training texts, drawn from a fixed seed, and no teacher."""
        chosen = np.random.default_rng(0).permutation(len(self.labels))[:count]
        return replace(self, views=[self.views[0][chosen]], labels=self.labels[chosen], logits=None)

    def with_labels(self, count: int) -> "Corpus":
        """Returns the corpus with the labels of the texts of `first` only."""
        labels = np.full(len(self.labels), -1)
        chosen = np.random.default_rng(0).permutation(len(self.labels))[:count]
        labels[chosen] = self.labels[chosen]
        return replace(self, labels=labels)


def read_corpus(task: str, folder: Path, teacher: Path | None) -> Corpus:
    """Reads the splits of a task and the logits of its teacher."""
    splits = [read_split(task, folder, split) for split in SPLITS[task]]
    classes = sorted(set(splits[0][1]))
    pairs = [
        (np.array([text.encode() for text in texts], object), np.array([classes.index(label) for label in labels]))
        for texts, labels in splits
    ]
    if teacher is None:
        return Corpus(classes, [pairs[0][0]], pairs[0][1], None, pairs[1], pairs[2])
    with np.load(teacher / "logits.npz") as file:
        logits = [file[f"view{view}"] for view in range(sum(name.startswith("view") for name in file.files))]
        accuracy = float((file["test"].argmax(axis=1) == pairs[2][1]).mean())
    views = [
        np.array([view_of(text, view, number).encode() for number, text in enumerate(splits[0][0])], object)
        for view in range(len(logits))
    ]
    return Corpus(classes, views, pairs[0][1], logits, pairs[1], pairs[2], accuracy)


def train(
    corpus: Corpus, settings: Settings, sizes: Mapping[str, int], seed: int
) -> tuple[DictionaryFamily, keras.Model]:
    """Chooses a dictionary and trains the students jointly, as the Distiller does."""
    task = Task(modality="text", input_shape=(settings.length,), classes=corpus.classes)
    wanted = {name: StudentSize(size_bytes=size) for name, size in sizes.items()}
    family = DictionaryFamily(wanted, task, settings.carrier, settings.features, settings.drop)
    outputs = corpus.logits[0] if corpus.logits else 20.0 * np.eye(len(corpus.classes), dtype=np.float32)[corpus.labels]
    family.prepare(corpus.views[0].tolist(), tf.nn.softmax(outputs.astype(np.float64)).numpy())
    model = family.build(seed)
    trainer, batches = trainer_of(family, model, corpus, settings, seed)
    lookup = family.dictionary.lookup
    if corpus.validation is None:
        trainer.train(batches, None)
        return family, model
    texts, labels = corpus.validation
    validation = tf.data.Dataset.from_tensor_slices((lookup.encode(texts, settings.length), labels)).batch(512)
    trainer.train(batches, validation)
    return family, model


def trainer_of(
    family: DictionaryFamily, model: keras.Model, corpus: Corpus, settings: Settings, seed: int
) -> tuple[JointTrainer, Callable[[int], tf.data.Dataset]]:
    """Makes the trainer, and the batches of an epoch: in epoch e a text is used in its view (e + text) mod views."""
    ids = [family.dictionary.lookup.encode(texts, settings.length) for texts in corpus.views]
    count, steps = len(corpus.labels), len(corpus.labels) // BATCH
    logits = corpus.logits or [np.zeros((count, len(corpus.classes)), np.float32)]
    stacked, outputs = np.stack(ids, axis=1), np.stack(logits, axis=1)
    loss = LossConfig(soft_weight=settings.soft_weight if corpus.logits else 0.0, temperature=settings.temperature)
    recipe = Recipe(
        "distilled",
        settings.epochs,
        steps,
        settings.learning_rate,
        loss=loss,
        ema_decay=0.99,
        seed=seed,
        modality="text",
    )

    def batches(epoch: int) -> tf.data.Dataset:
        order = np.random.default_rng([seed, epoch]).permutation(count)[: steps * BATCH]
        view = (order + epoch) % len(ids)
        parts = (stacked[order, view], corpus.labels[order].astype(np.int64), outputs[order, view])
        return tf.data.Dataset.from_tensor_slices(parts).batch(BATCH)

    return JointTrainer(model, tuple(family.costs()), recipe), batches


def write(family: DictionaryFamily, model: keras.Model, corpus: Corpus, settings: Settings) -> dict[str, bytes]:
    """Writes the int8 file of each student, with its dictionary."""
    files = {}
    examples = family.dictionary.lookup.encode(corpus.views[0][:200], settings.length)
    for name, student in cut_students(model, tuple(family.costs())).items():
        parsed = convert_post_training(student, "int8", examples, TextStudentInput().of_student(student))
        TextDeviceFormat().write_metadata(
            parsed,
            name=name,
            made="distilled by Learn2Compress",
            labels=corpus.classes,
            output_name=OUTPUT_NAME,
            normalization=Scaling.named("none"),
            dictionary=family.dictionary.to_bytes(),
        )
        files[name] = parsed.to_bytes()
    return files


def accuracy_of(data: bytes, split: tuple[np.ndarray, np.ndarray]) -> float:
    """Measures the accuracy of a file on texts."""
    return float((TextDeviceFormat().open_classifier(data).predict(split[0]).argmax(axis=1) == split[1]).mean())


def measure(
    what: str, corpus: Corpus, settings: Settings, budgets: Sequence[int], seeds: int, split: str, save: Path | None
) -> dict[str, dict[str, float]]:
    """Trains students of several budgets, in kilobytes, with each seed, and measures their files."""
    found: dict[str, list[tuple[float, int]]] = {f"{budget}KB": [] for budget in budgets}
    held_out = corpus.test if split == "test" or corpus.validation is None else corpus.validation
    for seed in range(seeds):
        began = time.monotonic()
        family, model = train(corpus, settings, {f"{budget}KB": 1000 * budget for budget in budgets}, seed)
        for name, data in write(family, model, corpus, settings).items():
            found[name].append((accuracy_of(data, held_out), len(data)))
            if save:
                (save / f"{what}-{name}-{seed}.tflite").write_bytes(data)
        print(f"{what}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
    rows = {}
    for name, results in found.items():
        mean, size = float(np.mean([score for score, _ in results])), max(size for _, size in results)
        interval = wilson_interval(round(mean * len(held_out[1])), len(held_out[1]))
        rows[name] = {
            "accuracy": round(mean, 4),
            "low": round(interval.low, 4),
            "high": round(interval.high, 4),
            "bytes": size,
        }
        spread = ", ".join(f"{score:.2%}" for score, _ in results)
        print(
            f"{what}, {split}, {name}: {mean:.2%} ({interval.low:.1%} to {interval.high:.1%}; seeds {spread}), "
            f"{size:,} B",
            flush=True,
        )
    return rows


def joint_ratio(corpus: Corpus, settings: Settings, pairs: int) -> dict[str, float]:
    """Measures the ratios of the time of three students to that of the largest alone.

    Both take turns in short blocks of steps within one process, so that other load of the machine meets them alike. An
    epoch makes its batches from texts in addition, which takes the same time for any number of students.

    Returns:
        For `joint_ratio`, of steps on batches that are made beforehand, and `joint_ratio_epochs`: the median ratio of
        consecutive blocks by the clock, the ratio of the shortest blocks by the clock, and the median by the processor.
    """
    sizes = {"small": 20_000, "medium": 50_000, "large": 100_000}
    task = Task(modality="text", input_shape=(settings.length,), classes=corpus.classes)
    wanted = {name: StudentSize(size_bytes=size) for name, size in sizes.items()}
    family = DictionaryFamily(wanted, task, settings.carrier, settings.features, settings.drop)
    outputs = 20.0 * np.eye(len(corpus.classes))[np.maximum(corpus.labels, 0)]
    family.prepare(corpus.views[0].tolist(), tf.nn.softmax(outputs).numpy())
    joint = family.build(0)
    nested = next(layer for layer in joint.layers if hasattr(layer, "select_students"))
    alone = nested.select_students(joint, tuple(sizes), ("large",))
    trainer, batches = trainer_of(family, joint, corpus, settings, 0)
    single = JointTrainer(alone, ("large",), trainer.recipe)
    decay, trained = tf.constant(0.99), {"joint": trainer, "alone": single}
    ready = list(batches(0))[:BLOCK]

    def ratios(source: Callable[[int], Iterable], what: str, count: int) -> dict[str, float]:
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in trained}
        for pair in range(count + 1):
            for name in sorted(trained, reverse=bool(pair % 2)):
                began, used = time.perf_counter(), time.process_time()
                for batch in source(pair):
                    losses = trained[name].step(*batch, decay)
                losses.numpy()
                times[name].append((time.perf_counter() - began, time.process_time() - used))
        both, one = (np.array(times[name][1:]) for name in ("joint", "alone"))
        medians, shortest = np.median(both / one, axis=0), both.min(axis=0) / one.min(axis=0)
        found = {what: medians[0], f"{what}_shortest": shortest[0], f"{what}_cpu": medians[1]}
        return {name: round(float(value), 4) for name, value in found.items()}

    of_steps = ratios(lambda _: ready, "joint_ratio", 20 * pairs)
    return of_steps | ratios(batches, "joint_ratio_epochs", pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agnews", type=Path, help="folder with train.csv, validation.csv and test.csv")
    parser.add_argument("--sst2", type=Path, help="folder with train.tsv, dev.tsv and test.tsv")
    parser.add_argument("--agnews-teacher", type=Path, help="folder of benchmarks/text_teacher.py")
    parser.add_argument("--sst2-teacher", type=Path, help="folder of benchmarks/text_teacher.py")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--save", type=Path, help="folder for the files")
    parser.add_argument(
        "--pairs", type=int, default=15, help="timed pairs of epochs, and of 20 times as many blocks of steps"
    )
    options = parser.parse_args()
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
    summary: dict[str, object] = {"split": options.split, "seeds": options.seeds}
    given = {"agnews": (options.agnews, options.agnews_teacher), "sst2": (options.sst2, options.sst2_teacher)}
    for task, (folder, teacher) in given.items():
        if folder is None:
            continue
        corpus, settings = read_corpus(task, folder, teacher), SETTINGS[task]
        if task == "sst2":
            corpus = replace(corpus, validation=None)
            if options.split == "validation":
                corpus = corpus.with_sentences_held_out(HELD_OUT)
        if corpus.teacher_accuracy is not None:
            print(f"{task}: teacher {corpus.teacher_accuracy:.2%} on test", flush=True)
        rest = (options.seeds, options.split, options.save)
        summary[task] = measure(task, corpus, settings, BUDGETS[task], *rest)
        summary[f"{task}_teacher"] = corpus.teacher_accuracy
        if task == "agnews":
            few = measure(
                "agnews, 1,000 labels alone", corpus.first(1000), replace(settings, epochs=40), (20, 50), *rest
            )
            summary["agnews_1000_labels"] = few
            if corpus.logits:
                more = measure(
                    "agnews, 1,000 labels and the teacher", corpus.with_labels(1000), settings, (20, 50), *rest
                )
                summary["agnews_1000_labels_teacher"] = more
            summary |= joint_ratio(corpus, settings, options.pairs)
            print(
                f"steps of three students together take {summary['joint_ratio']:.3f} of the time of the largest alone, "
                f"{summary['joint_ratio_cpu']:.3f} of its processor time"
            )
        else:
            words = replace(settings, features=Features())
            summary["sst2_words"] = measure("sst2, words alone", corpus, words, BUDGETS[task], *rest)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
